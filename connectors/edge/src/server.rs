//! The server: accepting connections within bounds, answering requests, stopping gracefully.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use crate::hub::Hub;
use crate::limiter::Limiter;
use crate::past::Past;
use crate::problem::Problem;
use crate::reader::Reader;
use crate::rest::Answer;
use crate::shared::Shared;

/// Why the edge cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process has the port.
    #[error("{0} is in use: stop what listens there, or choose another address with edge.listen")]
    InUse(SocketAddr),
    /// The system refuses the address.
    #[error("cannot listen on {0}: {1}")]
    Refused(SocketAddr, std::io::Error),
}

/// What every connection shares.
pub(crate) struct Edge {
    pub(crate) hub: Arc<Hub>,
    pub(crate) past: Past,
    limiter: Limiter,
    pub(crate) metrics: Option<PrometheusHandle>,
    /// Turns true when the server stops.
    pub(crate) stops: watch::Receiver<bool>,
    by_address: Mutex<BTreeMap<IpAddr, usize>>,
}

/// The edge, listening.
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    edge: Arc<Edge>,
    stop: watch::Sender<bool>,
}

/// Takes the address that the hub's options name. Nothing is accepted before [`Bound::serve`].
///
/// # Errors
/// When the address cannot be had.
pub async fn bind(hub: Arc<Hub>, reader: Arc<dyn Reader>) -> Result<Bound, BindError> {
    bind_sharing(hub, reader, None).await
}

/// As [`bind`], for an edge that shares answers and counters with others of its deployment.
///
/// # Errors
/// When the address cannot be had.
pub async fn bind_sharing(hub: Arc<Hub>, reader: Arc<dyn Reader>, shared: Option<Arc<dyn Shared>>) -> Result<Bound, BindError> {
    let options = hub.options().clone();
    let listener = TcpListener::bind(options.listen).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => BindError::InUse(options.listen),
        _ => BindError::Refused(options.listen, error),
    })?;
    let address = listener.local_addr().map_err(|error| BindError::Refused(options.listen, error))?;
    let (stop, stops) = watch::channel(false);
    let limiter = Limiter::new(options.clone(), shared.clone());
    let past = Past::new(reader, options, shared);
    let edge = Edge { hub, past, limiter, metrics: crate::metrics::install(), stops, by_address: Mutex::default() };
    Ok(Bound { listener, address, edge: Arc::new(edge), stop })
}

/// Waits until the server stops.
pub(crate) async fn stopping(stops: &mut watch::Receiver<bool>) {
    let _ = stops.wait_for(|stops| *stops).await;
}

/// An open connection's place among those allowed; also kept by the WebSocket that it turns into.
pub(crate) struct Place {
    edge: Arc<Edge>,
    address: IpAddr,
    /// Dropped with the last place: then the server has stopped.
    _alive: mpsc::Sender<Infallible>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_address = self.edge.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&self.address);
            }
        }
        metrics::gauge!(crate::metrics::CONNECTIONS, "protocol" => "http").decrement(1);
    }
}

impl Bound {
    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` is done; then WebSockets are closed with 1001 and requests under way are answered.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) {
        let Self { listener, edge, stop, .. } = self;
        let (alive, mut all_ended) = mpsc::channel::<Infallible>(1);
        let mut upkeep = tokio::time::interval(Duration::from_secs(5));
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                _ = upkeep.tick() => if let Some(metrics) = &edge.metrics { metrics.run_upkeep() },
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => admit(&edge, stream, peer, &alive),
                    Err(error) => {
                        // Out of file descriptors, most likely: those who leave free some.
                        tracing::warn!(%error, "a connection cannot be accepted");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                },
            }
        }
        drop(listener);
        stop.send_replace(true);
        drop(alive);
        let stop_timeout = Duration::from_millis(edge.hub.options().stop_timeout_ms);
        let _ = tokio::time::timeout(stop_timeout, all_ended.recv()).await;
    }
}

fn admit(edge: &Arc<Edge>, stream: TcpStream, peer: SocketAddr, alive: &mpsc::Sender<Infallible>) {
    let options = edge.hub.options();
    let address = peer.ip().to_canonical();
    let refusal = {
        let mut by_address = edge.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if by_address.values().sum::<usize>() >= options.connections_max {
            Some(("503 Service Unavailable", "connections_max"))
        } else if by_address.get(&address).is_some_and(|&count| count >= options.connections_per_address_max) {
            Some(("429 Too Many Requests", "connections_per_address_max"))
        } else {
            *by_address.entry(address).or_default() += 1;
            None
        }
    };
    if let Some((status, reason)) = refusal {
        metrics::counter!(crate::metrics::CONNECTIONS_REFUSED, "reason" => reason).increment(1);
        let answer = format!("HTTP/1.1 {status}\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        // Small enough for the socket's own buffer: it either fits now or is not worth waiting for.
        let _ = stream.try_write(answer.as_bytes());
        return;
    }
    metrics::gauge!(crate::metrics::CONNECTIONS, "protocol" => "http").increment(1);
    let place = Arc::new(Place { edge: edge.clone(), address, _alive: alive.clone() });
    tokio::spawn(serve_connection(edge.clone(), stream, place));
}

async fn serve_connection(edge: Arc<Edge>, stream: TcpStream, place: Arc<Place>) {
    // Frames are whole when they are written: waiting for more to fill a packet only delays them.
    let _ = stream.set_nodelay(true);
    let options = edge.hub.options().clone();
    let mut stops = edge.stops.clone();
    let service = hyper::service::service_fn(move |request| {
        let (edge, place) = (edge.clone(), place.clone());
        async move { Ok::<_, Infallible>(respond(&edge, request, place).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(options.header_timeout_ms))
        .max_headers(options.headers_max)
        .max_header_size(options.header_bytes_max)
        .max_buf_size(options.header_bytes_max.max(8_192))
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopping(&mut stops) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn respond(edge: &Arc<Edge>, request: Request<Incoming>, place: Arc<Place>) -> Answer {
    let started_at = Instant::now();
    let path: String = request.uri().path().chars().take(256).collect();
    let route = route(&path);
    let answered = async {
        // Whoever watches over the server may always ask how it is.
        if route != "operations" {
            edge.limiter.admit(place.address).await?;
        }
        edge.check_host(request.headers(), request.uri())?;
        if route == "websocket" { crate::websocket::upgrade(edge, request, place) } else { crate::rest::answer(edge, request).await }
    };
    let request_timeout = Duration::from_millis(edge.hub.options().request_timeout_ms);
    let answer = tokio::time::timeout(request_timeout, answered).await;
    let answer = answer.unwrap_or_else(|_| Err(Problem::busy("the answer took too long: try again later")));
    let answer = secured(answer.unwrap_or_else(|problem| problem.answer(&path)));
    metrics::counter!(crate::metrics::REQUESTS, "status" => answer.status().as_str().to_owned()).increment(1);
    metrics::histogram!(crate::metrics::REQUEST_SECONDS, "route" => route).record(started_at.elapsed());
    answer
}

/// The kind of resource that a path names: few, whatever clients ask for.
fn route(path: &str) -> &'static str {
    if path == "/ws" || path.starts_with("/ws/") {
        "websocket"
    } else if path.starts_with("/api/") {
        "api"
    } else if matches!(path, "/healthz" | "/readyz" | "/metrics") {
        "operations"
    } else {
        "dashboard"
    }
}

/// The dashboard loads nothing from elsewhere and nobody frames it.
fn secured(mut answer: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    const SECURITY: [(&str, &str); 5] = [
        (
            "content-security-policy",
            "default-src 'self'; connect-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
    ];
    for (name, value) in SECURITY {
        answer.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    answer
}

/// The name in an authority such as `localhost:8080` or `[::1]:8080`.
fn host_name(authority: &str) -> &str {
    let name = match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => authority,
    };
    name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name)
}

fn is_loopback(name: &str) -> bool {
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl Edge {
    /// Refuses a request that calls this server by a name that is not its own.
    fn check_host(&self, headers: &HeaderMap, uri: &Uri) -> Result<(), Problem> {
        let authority =
            headers.get(HOST).and_then(|host| host.to_str().ok()).or_else(|| uri.authority().map(|authority| authority.as_str()));
        let name = host_name(authority.ok_or_else(|| Problem::bad_request("the request has no Host header"))?);
        let is_known = is_loopback(name) || name.parse::<IpAddr>().is_ok() || is_listed(&self.hub.options().hosts, name);
        if is_known {
            Ok(())
        } else {
            Err(Problem::new(StatusCode::FORBIDDEN, "this server does not go by that name: add it to edge.hosts"))
        }
    }

    /// Refuses what another site's page sends. A client that is no browser names no origin.
    pub(crate) fn check_origin(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
        let origin = origin.to_str().unwrap_or_default();
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        let is_same = authority.is_some() && authority == host;
        let is_local = authority.is_some_and(|authority| is_loopback(host_name(authority)));
        if is_same || is_local || is_listed(&self.hub.options().origins, origin) {
            return Ok(());
        }
        Err(Problem::new(StatusCode::FORBIDDEN, "another site may not do this: add its origin to edge.origins if it may"))
    }
}

fn is_listed(list: &[String], name: &str) -> bool {
    list.iter().any(|listed| listed.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_is_read_with_and_without_port_and_brackets() {
        for (authority, name) in [
            ("localhost:8080", "localhost"),
            ("localhost", "localhost"),
            ("[::1]:8080", "::1"),
            ("[::1]", "::1"),
            ("10.0.0.1:1", "10.0.0.1"),
        ] {
            assert_eq!(host_name(authority), name);
        }
    }

    #[test]
    fn only_loopback_is_local() {
        for name in ["localhost", "LOCALHOST", "127.0.0.1", "127.1.2.3", "::1"] {
            assert!(is_loopback(name), "{name}");
        }
        for name in ["localhost.evil.example", "10.0.0.1", "", "0.0.0.0"] {
            assert!(!is_loopback(name), "{name}");
        }
    }
}
