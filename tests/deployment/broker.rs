//! A broker of its own for a test that kills it, through `docker/services` on ports and with data of its own.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

pub(crate) struct Broker {
    state: TempDir,
    pub(crate) port: u16,
    controller_port: u16,
}

impl Broker {
    pub(crate) fn start() -> Self {
        // Both are held until both are known, so that they differ.
        let free = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [port, controller_port] = free.map(|listener| listener.local_addr().unwrap().port());
        let broker = Self { state: tempfile::tempdir().unwrap(), port, controller_port };
        broker.up();
        broker
    }

    fn services(&self, arguments: &[&str]) {
        let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/services"))
            .args(arguments)
            .env("SERVICES_NATIVE", "1")
            .env("SERVICES_STATE", self.state.path())
            .env("SERVICES_KAFKA_PORT", self.port.to_string())
            .env("SERVICES_KAFKA_CONTROLLER_PORT", self.controller_port.to_string())
            .output()
            .unwrap();
        assert!(output.status.success(), "docker/services {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Starts it, with whatever an earlier run left on its disk.
    pub(crate) fn up(&self) {
        self.services(&["up", "kafka"]);
    }

    /// SIGKILL.
    pub(crate) fn kill(&self) {
        let id = std::fs::read_to_string(self.state.path().join("kafka/pid")).unwrap();
        let killed = Command::new("kill").args(["-KILL", id.trim()]).status().unwrap();
        assert!(killed.success());
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.services(&["down", "--data", "kafka"]);
    }
}
