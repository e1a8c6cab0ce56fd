//! Every bound and address of the edge, by name: section `[edge]` of the settings.

use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

/// Settings of the edge. Reaching a bound has a defined result, named beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Address to listen on; port 0 takes any free one. Loopback unless set: the edge has no users of its own.
    pub listen: SocketAddr,
    /// Names, besides `localhost` and IP addresses, by which clients may call this server (`Host`). Another one is refused with 403, so
    /// that a name that is made to point here cannot read or steer it through somebody's browser.
    pub hosts: Vec<String>,
    /// Sites, e.g. `https://wall.example`, whose pages may open WebSockets and steer replays besides those served from here and from
    /// loopback. Another one is refused with 403.
    pub origins: Vec<String>,
    /// Connections open at a time. One more is answered 503 and closed.
    pub connections_max: usize,
    /// Connections open at a time from one address. One more is answered 429 and closed.
    pub connections_per_address_max: usize,
    /// Requests of one address, WebSockets' included, within a window. More are answered 429 until it ends; 0 for no such limit, as behind a
    /// balancer that is the only address there is. Edges that share counters count together.
    pub requests_per_window_max: u64,
    /// Length of that window, ms.
    pub request_window_ms: u64,
    /// Addresses that a process counts by itself in a window. Those beyond are not counted.
    pub limited_addresses_max: usize,
    /// Bytes of a request's head. A longer one is answered 431, a longer target 414.
    pub header_bytes_max: usize,
    /// Headers of a request. More are answered 431.
    pub headers_max: usize,
    /// Bytes of a request's body. A longer one is answered 413.
    pub body_bytes_max: usize,
    /// Time for a request's head to arrive, ms; also how long a connection may idle between requests. Then it is closed.
    pub header_timeout_ms: u64,
    /// Time for an answer, ms. Then it is 503.
    pub request_timeout_ms: u64,
    /// Facts of one page of `history=true`: the default and the most that `limit` may ask for.
    pub page_facts_max: usize,
    /// Looks at the past (`as_of`, `explain`, `verify`) that run at once. One more is answered 503 with `Retry-After`.
    pub looks_back_max: usize,
    /// Looks at the past kept for the next who asks the same. The oldest makes room.
    pub looks_back_cached_max: usize,
    /// Facts that one look at the past reads at a time.
    pub look_back_page_facts: usize,
    /// Reads of the fact log for pages and for clients that catch up that run at once. More wait.
    pub reads_max: usize,
    /// Frames kept of each channel of a session. The oldest leaves.
    pub ring_frames_max: usize,
    /// Bytes of frames kept of each channel of a session. The oldest leaves; a larger frame is not kept at all.
    pub ring_bytes_max: usize,
    /// Newest rows kept of each channel of a session. Beyond it those of the oldest facts leave the table; `history=true` still has them.
    pub table_rows_max: usize,
    /// Facts that a client of a must-deliver channel may catch up from the fact log. One further behind is closed with 1013.
    pub catch_up_facts_max: usize,
    /// Delayed subscriptions (`delay_ms`) of all connections. One more is answered 503 with an error.
    pub delayed_max: usize,
    /// The longest delay of a subscription, ms. A longer one is answered with an error.
    pub delay_ms_max: i64,
    /// Time between two looks of a delayed subscription, ms.
    pub delayed_look_interval_ms: u64,
    /// Subscriptions of one connection. One more is answered with an error.
    pub subscriptions_per_connection_max: usize,
    /// Bytes of a message from a client. A longer one closes the connection with 1009.
    pub message_bytes_max: usize,
    /// Messages, pings included, that a client may send between two pings of the server. More close the connection with 1008.
    pub messages_per_ping_max: usize,
    /// Unreadable or impossible messages of a connection. One more closes it with 1008.
    pub protocol_errors_max: usize,
    /// Frames' bytes that one socket write takes up before it must be finished; a larger frame goes alone.
    pub write_bytes_max: usize,
    /// Time for one socket write, ms. Then the connection is closed: its client does not read.
    pub write_timeout_ms: u64,
    /// Time between two pings, ms.
    pub ping_interval_ms: u64,
    /// Time for a client to show life after a ping, ms. Then it is closed.
    pub pong_timeout_ms: u64,
    /// Time for connections to end when the server stops, ms. Then they are cut.
    pub stop_timeout_ms: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8_080)),
            hosts: Vec::new(),
            origins: Vec::new(),
            connections_max: 4_096,
            connections_per_address_max: 2_048,
            requests_per_window_max: 0,
            request_window_ms: 10_000,
            limited_addresses_max: 65_536,
            header_bytes_max: 16 * 1_024,
            headers_max: 64,
            body_bytes_max: 4_096,
            header_timeout_ms: 30_000,
            request_timeout_ms: 10_000,
            page_facts_max: 1_000,
            looks_back_max: 2,
            looks_back_cached_max: 64,
            look_back_page_facts: 4_096,
            reads_max: 8,
            ring_frames_max: 1_024,
            ring_bytes_max: 4 << 20,
            table_rows_max: 65_536,
            catch_up_facts_max: 4_096,
            delayed_max: 64,
            delay_ms_max: 3_600_000,
            delayed_look_interval_ms: 200,
            subscriptions_per_connection_max: 32,
            message_bytes_max: 4_096,
            messages_per_ping_max: 256,
            protocol_errors_max: 8,
            write_bytes_max: 256 * 1_024,
            write_timeout_ms: 10_000,
            ping_interval_ms: 15_000,
            pong_timeout_ms: 10_000,
            stop_timeout_ms: 2_000,
        }
    }
}
