//! A running `pitwall` as tests see it: started on a free port, asked over HTTP, ended with the test.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "these tests start processes and wait for them")]

pub(crate) mod browser;
pub(crate) mod proxy;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long anything here may take before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The Dutch race's session key.
pub(crate) const DUTCH: i32 = 9920;

/// The Mexico qualifying's session key.
pub(crate) const MEXICO: i32 = 9873;

/// The bundled race.
pub(crate) fn race() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/dutch_2025_race.avro")
}

/// The bundled qualifying.
pub(crate) fn qualifying() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/mexico_2025_qualifying.avro")
}

/// A `pitwall demo` or `pitwall replay` of its own.
pub(crate) struct Demo {
    child: Child,
    session_key: i32,
    /// `http://127.0.0.1:PORT`.
    pub(crate) url: String,
}

impl Demo {
    /// Starts a demo on `data_dir`.
    pub(crate) fn start(data_dir: &Path, arguments: &[&str]) -> Self {
        Self::run(&["demo"], DUTCH, data_dir, arguments)
    }

    /// Starts a replay of the bundled qualifying on `data_dir`.
    pub(crate) fn start_qualifying(data_dir: &Path, arguments: &[&str]) -> Self {
        Self::replay(&qualifying(), MEXICO, data_dir, arguments)
    }

    /// Starts a replay of an archive on `data_dir`.
    pub(crate) fn replay(archive: &Path, session_key: i32, data_dir: &Path, arguments: &[&str]) -> Self {
        Self::run(&["replay", archive.to_str().unwrap()], session_key, data_dir, arguments)
    }

    fn run(command: &[&str], session_key: i32, data_dir: &Path, arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_pitwall"))
            .args(command)
            .args(["--listen", "127.0.0.1:0", "--data-dir"])
            .arg(data_dir)
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let url = lines
            .find_map(|line| line.unwrap().split_whitespace().find(|word| word.starts_with("http://")).map(str::to_owned))
            .expect("the demo prints its address");
        // Whatever else it prints must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, session_key, url: url.trim_end_matches('/').to_owned() }
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as `kill -9` does.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// `GET path` as JSON; fails on any other status than 200.
    pub(crate) fn get(&self, path: &str) -> Value {
        get(&format!("{}{path}", self.url))
    }

    /// The rows of a channel, now or as `query` asks.
    pub(crate) fn rows(&self, channel: &str, query: &str) -> Vec<Value> {
        let answer = self.get(&format!("/api/v1/sessions/{}/{channel}{query}", self.session_key));
        answer["rows"].as_array().unwrap().clone()
    }

    /// Steers the replay.
    pub(crate) fn steer(&self, body: &str) -> Value {
        let url = format!("{}/api/v1/sessions/{}/replay", self.url, self.session_key);
        let mut answer = ureq::post(url).header("Content-Type", "application/json").send(body).unwrap();
        serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap()
    }

    /// Waits until the session says what `is_so` wants; fails when that takes too long.
    pub(crate) fn wait_for(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let session = self.get(&format!("/api/v1/sessions/{}", self.session_key));
            if is_so(&session) {
                return session;
            }
            assert!(begun.elapsed() < PATIENCE, "{what}: not after {PATIENCE:?}; the session says {session}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `GET url` as JSON.
pub(crate) fn get(url: &str) -> Value {
    let mut answer = ureq::get(url).call().unwrap_or_else(|error| panic!("{url}: {error}"));
    serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap()
}
