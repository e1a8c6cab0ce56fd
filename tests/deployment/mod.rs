//! A deployment on a real broker as tests see it: topics under a prefix of their own, roles as processes of the built program, all gone with
//! the test.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "these tests start processes and wait for them")]

pub(crate) mod keyspace;
pub(crate) mod service;

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

/// The port of `docker/services`.
const PORT: u16 = 19_092;
/// Far more than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// The Redis server that tests share.
pub(crate) fn redis_url() -> String {
    const PORT: u16 = 16_379;
    let port = std::env::var("SERVICES_REDIS_PORT").map_or(PORT, |port| port.parse().unwrap());
    let address = format!("127.0.0.1:{port}");
    let server = TcpStream::connect_timeout(&address.parse().unwrap(), Duration::from_secs(2));
    assert!(server.is_ok(), "no Redis at {address}: start it with `docker/services up redis`");
    format!("redis://{address}")
}

pub(crate) struct Deployment {
    /// HOST:PORT of the broker.
    pub(crate) address: String,
    /// What goes before the name of every topic and group.
    pub(crate) prefix: String,
    partitions: i32,
    /// Further settings, as variables.
    settings: Vec<(&'static str, String)>,
}

impl Deployment {
    /// Makes the topics on the broker that tests share.
    pub(crate) fn new(name: &str, partitions: i32) -> Self {
        let port = std::env::var("SERVICES_KAFKA_PORT").map_or(PORT, |port| port.parse().unwrap());
        Self::on(port, name, partitions)
    }

    /// Makes the topics on the broker at `port`.
    pub(crate) fn on(port: u16, name: &str, partitions: i32) -> Self {
        Self::with(port, name, partitions, Vec::new())
    }

    /// Makes the topics on the broker at `port`, with these settings from the beginning.
    pub(crate) fn with(port: u16, name: &str, partitions: i32, settings: Vec<(&'static str, String)>) -> Self {
        let address = format!("127.0.0.1:{port}");
        let broker = TcpStream::connect_timeout(&address.parse().unwrap(), Duration::from_secs(2));
        assert!(broker.is_ok(), "no Kafka at {address}: start it with `docker/services up kafka`");
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
        let deployment = Self { address, prefix: format!("test-{name}-{}-{now}.", std::process::id()), partitions, settings };
        deployment.told(&["topics", "create"]);
        deployment
    }

    /// Sets something for every command from now on.
    pub(crate) fn set(&mut self, variable: &'static str, value: &str) {
        self.settings.push((variable, value.to_owned()));
    }

    /// `pitwall` with the settings of this deployment.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pitwall"));
        command
            .args(arguments)
            .env("PITWALL_KAFKA__BROKERS", &self.address)
            .env("PITWALL_KAFKA__PREFIX", &self.prefix)
            .env("PITWALL_KAFKA__PARTITIONS", self.partitions.to_string())
            .env("PITWALL_KAFKA__SESSION_TIMEOUT_MS", "2000")
            .env("PITWALL_KAFKA__TIMEOUT_MS", "10000")
            .envs(self.settings.iter().cloned());
        command
    }

    /// What a command that succeeds says.
    pub(crate) fn told(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What a command that fails says.
    pub(crate) fn complaint(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(!output.status.success(), "{arguments:?} succeeds");
        String::from_utf8(output.stderr).unwrap()
    }

    /// Starts a command that ends by itself.
    pub(crate) fn begin(&self, arguments: &[&str]) -> Process {
        let child = self.command(arguments).stdout(Stdio::null()).spawn().unwrap();
        Process { child, edge: None, monitor: String::new() }
    }

    /// Starts roles in a process of their own and waits until they are ready to run.
    pub(crate) fn start(&self, roles: &str) -> Process {
        let mut command = self.command(&["run", "--roles", roles, "--listen", "127.0.0.1:0", "--monitor", "127.0.0.1:0"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (mut edge, mut monitor) = (None, None);
        for line in lines.by_ref().map_while(Result::ok) {
            let url = line.split_whitespace().find(|word| word.starts_with("http://")).map(|url| url.trim_end_matches('/').to_owned());
            match url {
                Some(url) if line.starts_with("metrics") => monitor = Some(url),
                Some(url) => edge = Some(url),
                None => {}
            }
            if monitor.is_some() {
                break;
            }
        }
        // Whatever else it prints must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Process { child, edge, monitor: monitor.expect("the process says where its metrics are") }
    }
}

/// Roles that run; killed when this goes.
pub(crate) struct Process {
    child: Child,
    edge: Option<String>,
    /// Where its metrics are.
    pub(crate) monitor: String,
}

impl Process {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// `http://127.0.0.1:PORT` of its edge.
    pub(crate) fn url(&self) -> &str {
        self.edge.as_deref().expect("an edge says where it is")
    }

    /// Sends it a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.id().to_string()]).status().unwrap();
        assert!(sent.success(), "signal {name} for process {}", self.id());
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Tells it to stop and waits until it has.
    pub(crate) fn stop(mut self) -> ExitStatus {
        self.signal("TERM");
        self.child.wait().unwrap()
    }

    /// Waits until it ends by itself.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "the process does not end");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// `GET path` of its edge as JSON; `None` when the edge answers another status than 200.
    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        let url = format!("{}{path}", self.url());
        let mut answer = match ureq::get(&url).call() {
            Ok(answer) => answer,
            Err(ureq::Error::StatusCode(_)) => return None,
            Err(error) => panic!("{url}: {error}"),
        };
        Some(serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap())
    }

    /// Waits until its edge has read the log.
    pub(crate) fn wait_until_ready(&self) {
        let url = format!("{}/readyz", self.url());
        wait_for("the edge is ready", || ureq::get(&url).call().is_ok().then_some(()));
    }

    /// Waits until its edge shows a session as complete, and returns what it says of it.
    pub(crate) fn wait_until_complete(&self, session_key: i32) -> Value {
        let path = format!("/api/v1/sessions/{session_key}");
        wait_for("the session is complete", || self.get(&path).filter(|session| session["state"] == "COMPLETE"))
    }

    /// The process's metrics in Prometheus's text format.
    pub(crate) fn metrics(&self) -> String {
        let url = &self.monitor;
        ureq::get(url).call().unwrap_or_else(|error| panic!("{url}: {error}")).body_mut().read_to_string().unwrap()
    }

    /// The sum of a metric over its labels; `None` when it is not there.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        let text = self.metrics();
        let is_of = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        let values: Vec<f64> = text.lines().filter(is_of).map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks until there is an answer; fails when that takes too long.
pub(crate) fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}: not after {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
