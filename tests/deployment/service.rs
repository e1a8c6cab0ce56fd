//! Services of its own for a test that kills them, through `docker/services` on ports and with data of their own.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::wait_for;

/// A running service.
pub(crate) struct Service {
    name: &'static str,
    state: TempDir,
    pub(crate) port: u16,
    /// Ports of its own as variables of `docker/services`.
    ports: Vec<(&'static str, u16)>,
}

impl Service {
    /// Starts a broker.
    pub(crate) fn kafka() -> Self {
        Self::start("kafka", &["SERVICES_KAFKA_PORT", "SERVICES_KAFKA_CONTROLLER_PORT"])
    }

    /// Starts a broker whose port wants TLS and a password.
    pub(crate) fn secured_kafka() -> Self {
        let mut service = Self::start("kafka", &["SERVICES_KAFKA_PORT", "SERVICES_KAFKA_CONTROLLER_PORT", "SERVICES_KAFKA_SECURED_PORT"]);
        service.port = service.ports[2].1;
        service
    }

    /// Starts a CQL server.
    pub(crate) fn cassandra() -> Self {
        Self::start("cassandra", &["SERVICES_CQL_PORT", "SERVICES_CASSANDRA_STORAGE_PORT", "SERVICES_CASSANDRA_JMX_PORT"])
    }

    /// Starts a Redis server.
    pub(crate) fn redis() -> Self {
        Self::start("redis", &["SERVICES_REDIS_PORT"])
    }

    /// Starts a schema registry.
    pub(crate) fn registry() -> Self {
        Self::start("registry", &["SERVICES_REGISTRY_PORT"])
    }

    fn start(name: &'static str, variables: &[&'static str]) -> Self {
        // Not of those that the system gives to clients: one that looks for a service that is away could meet itself there.
        let first = 20_000 + (std::process::id() % 5_000) as u16 * 2;
        let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
        let ports: Vec<_> = variables.iter().copied().zip((first..32_000).filter(is_free)).collect();
        let service = Self { name, state: tempfile::tempdir().unwrap(), port: ports[0].1, ports };
        service.up();
        service
    }

    fn services(&self, arguments: &[&str]) {
        let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/services"))
            .args(arguments)
            .env("SERVICES_NATIVE", "1")
            .env("SERVICES_STATE", self.state.path())
            .envs(self.ports.iter().map(|(variable, port)| (variable, port.to_string())))
            .output()
            .unwrap();
        assert!(output.status.success(), "docker/services {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// A file of its folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.state.path().join(self.name).join(name)
    }

    /// Starts it, with whatever an earlier run left on its disk.
    pub(crate) fn up(&self) {
        self.services(&["up", self.name]);
    }

    /// SIGKILL.
    pub(crate) fn kill(&self) {
        self.signal("KILL");
        wait_for("the service is gone", || TcpStream::connect(("127.0.0.1", self.port)).is_err().then_some(()));
    }

    /// Sends it a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        let id = std::fs::read_to_string(self.file("pid")).unwrap();
        let sent = Command::new("kill").args([&format!("-{name}"), id.trim()]).status().unwrap();
        assert!(sent.success(), "signal {name} for {}", self.name);
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.services(&["down", "--data", self.name]);
    }
}
