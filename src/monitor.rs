//! `/metrics` of a process: one small server beside whatever its roles do.
//!
//! It answers one request at a time, from Prometheus as a rule, and reads no more of it than its first line.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

/// How often is looked for a request.
const ACCEPT_POLL: Duration = Duration::from_millis(50);
/// Times that were measured are summed up at least this often, asked for or not, so that they do not pile up.
const UPKEEP: Duration = Duration::from_secs(5);
/// How long a client may take to ask and to read. Then it is cut.
const CLIENT_WAIT: Duration = Duration::from_secs(2);
/// Bytes of a request that are read. A longer first line is answered 404.
const REQUEST_BYTES_MAX: u64 = 4_096;

/// A server of this process's metrics, bound and not serving yet.
pub(crate) struct Monitor {
    listener: TcpListener,
    address: SocketAddr,
}

impl Monitor {
    /// Listens on `address` and begins to count.
    pub(crate) fn bind(address: SocketAddr) -> Result<Self> {
        let listener =
            TcpListener::bind(address).with_context(|| format!("cannot listen on {address}: give another address with --monitor"))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        if pitwall_edge::metrics::install().is_some() {
            pitwall_kafka::metrics::describe();
            pitwall_scylla::metrics::describe();
        }
        Ok(Self { listener, address })
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves on a thread of its own for as long as the process lives.
    pub(crate) fn serve(self) -> Result<()> {
        let metrics = pitwall_edge::metrics::install().ok_or_else(|| anyhow!("something else collects this process's metrics"))?;
        let serve = move || {
            let mut kept_up = Instant::now();
            loop {
                if kept_up.elapsed() >= UPKEEP {
                    metrics.run_upkeep();
                    kept_up = Instant::now();
                }
                match self.listener.accept() {
                    // A client that goes away has no answer to miss.
                    Ok((stream, _)) => drop(answer(&stream, || metrics.render())),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(ACCEPT_POLL),
                    Err(error) => {
                        tracing::warn!(%error, "a request for metrics cannot be accepted");
                        thread::sleep(ACCEPT_POLL);
                    }
                }
            }
        };
        thread::Builder::new().name("monitor".to_owned()).spawn(serve).map(drop).context("the monitor's thread cannot be started")
    }
}

fn answer(mut stream: &TcpStream, metrics: impl FnOnce() -> String) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(CLIENT_WAIT))?;
    stream.set_write_timeout(Some(CLIENT_WAIT))?;
    let mut reader = BufReader::new(stream.take(REQUEST_BYTES_MAX));
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let is_metrics = line.starts_with("GET /metrics ");
    // The rest of the head is read, so that closing does not cut the answer off.
    let mut header = String::new();
    while reader.read_line(&mut header)? > 0 && !header.trim().is_empty() {
        header.clear();
    }
    let (status, body) = if is_metrics { ("200 OK", metrics()) } else { ("404 Not Found", "only /metrics is here\n".to_owned()) };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    stream.flush()
}
