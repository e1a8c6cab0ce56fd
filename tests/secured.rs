//! A broker that wants TLS and a password: the whole deployment works with it as with any other, and whoever is refused is told.

mod deployment;

use std::fs;
use std::path::Path;

use deployment::Deployment;
use deployment::service::Service;
use serde_json::Value;

const SILVERSTONE: i32 = 9_551;
/// As docker/services sets it.
const PASSWORD: &str = "for-tests-only";

#[test]
fn a_deployment_over_tls_with_a_password_comes_to_a_backtests_facts_and_the_refused_are_told() {
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/silverstone_2024_practice_1.avro");
    let (archive, folder) = (archive.to_str().unwrap(), tempfile::tempdir().unwrap());
    let broker = Service::secured_kafka();
    let secret = |name: &str, text: &str| {
        let file = folder.path().join(name);
        fs::write(&file, format!("{text}\n")).unwrap();
        format!("sasl.password={}", file.to_str().unwrap())
    };
    let right = secret("right", PASSWORD);
    let settings = |mechanism: &str| {
        let certificate = broker.file("certificate.pem");
        let properties = format!(
            "security.protocol=SASL_SSL,sasl.mechanism={mechanism},sasl.username=pitwall,ssl.ca.location={}",
            certificate.to_str().unwrap()
        );
        vec![("PITWALL_KAFKA__PROPERTIES", properties), ("PITWALL_KAFKA__PROPERTY_FILES", right.clone())]
    };
    for mechanism in ["SCRAM-SHA-512", "PLAIN"] {
        let deployment = Deployment::with(broker.port, "secured", 1, settings(mechanism));
        let out = folder.path().join(mechanism);
        deployment.told(&["backtest", archive, "--out", out.to_str().unwrap(), "--quiet"]);
        let manifest: Value = serde_json::from_str(&fs::read_to_string(out.join("manifest.json")).unwrap()).unwrap();
        let roles = [deployment.start("engine"), deployment.start("edge")];
        deployment.told(&["ingest", "archive", archive]);
        roles[1].wait_until_ready();
        let shown = roles[1].wait_until_complete(SILVERSTONE);
        assert_eq!((&shown["facts"], &shown["facts_hash"]), (&manifest["facts"], &manifest["facts_hash"]), "{mechanism}");
        for role in roles {
            assert!(role.stop().success(), "a process that is told to stop ends well");
        }
    }

    let mut refused = Deployment::with(broker.port, "refused", 1, settings("SCRAM-SHA-512"));
    refused.set("PITWALL_KAFKA__TIMEOUT_MS", "3000");
    refused.set("PITWALL_KAFKA__PROPERTY_FILES", &secret("wrong", "hunter2"));
    let complaint = refused.complaint(&["topics", "check"]);
    assert!(complaint.contains("uthentication") && !complaint.contains("hunter2"), "a wrong password: {complaint}");
    refused.set("PITWALL_KAFKA__PROPERTY_FILES", &right);
    refused.set("PITWALL_KAFKA__PROPERTIES", "security.protocol=SASL_SSL,sasl.mechanism=PLAIN,sasl.username=pitwall");
    let complaint = refused.complaint(&["topics", "check"]);
    assert!(complaint.contains("certificate verify failed"), "a certificate that nobody known has signed: {complaint}");
}
