//! Chromium, driven through WebDriver.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};

use super::PATIENCE;

/// A `chromedriver` on a port of its own.
pub(crate) struct Driver {
    child: Child,
    url: String,
}

impl Driver {
    /// Starts it; once more when the port that it found free was taken before it listened.
    pub(crate) fn start() -> Self {
        (0..3).find_map(|_| Self::try_start()).expect("chromedriver says the port that it listens on")
    }

    fn try_start() -> Option<Self> {
        let mut child = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("chromedriver cannot be started ({error}): apt-get install chromium chromium-driver"));
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines
            .find_map(|line| line.unwrap().rsplit_once("successfully on port ").map(|(_, port)| port.trim_end_matches('.').to_owned()));
        std::thread::spawn(move || lines.for_each(drop));
        let driver = Self { child, url: format!("http://127.0.0.1:{}", port.as_deref().unwrap_or_default()) };
        port.is_some().then_some(driver)
    }

    /// A new browser with a window of this size and a profile of its own.
    pub(crate) async fn browser(&self, width: u32, height: u32) -> Client {
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
        ];
        let capabilities = json!({
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        });
        let Value::Object(capabilities) = capabilities else { unreachable!("an object was written") };
        let client = ClientBuilder::new(HttpConnector::new()).capabilities(capabilities).connect(&self.url).await.unwrap();
        client.set_window_size(width, height).await.unwrap();
        client
    }

    /// What went wrong in the page so far: uncaught errors and what it complained of in the console. A connection that drops is none.
    pub(crate) async fn errors(&self, client: &Client) -> Vec<String> {
        let session = client.session_id().await.unwrap().unwrap();
        let url = format!("{}/session/{session}/se/log", self.url);
        let asked = tokio::task::spawn_blocking(move || {
            let mut answer = ureq::post(url).header("Content-Type", "application/json").send(r#"{"type":"browser"}"#).unwrap();
            answer.body_mut().read_to_string().unwrap()
        });
        let answer: Value = serde_json::from_str(&asked.await.unwrap()).unwrap();
        let is_error = |entry: &&Value| entry["level"] == "SEVERE" && entry["source"] != "network";
        answer["value"].as_array().unwrap().iter().filter(is_error).map(|entry| entry["message"].to_string()).collect()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until a script answers what is expected.
pub(crate) async fn eventually(browser: &Client, script: &str, expected: &Value) {
    let begun = Instant::now();
    loop {
        let answer = browser.execute(script, Vec::new()).await.unwrap();
        if answer == *expected {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "the page says {answer}, the API {expected}; asked with {script}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
