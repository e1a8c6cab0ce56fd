//! The limit of requests in a window of time, for each address: across edges where they share counters, else of this process.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::options::Options;
use crate::problem::Problem;
use crate::shared::{Counted, Shared};

/// Counts requests and refuses those beyond the limit.
pub(crate) struct Limiter {
    options: Arc<Options>,
    shared: Option<Arc<dyn Shared>>,
    own: Mutex<Option<Window>>,
}

/// What this process counts itself.
struct Window {
    begun_at: Instant,
    requests: BTreeMap<IpAddr, u64>,
}

impl Limiter {
    pub(crate) fn new(options: Arc<Options>, shared: Option<Arc<dyn Shared>>) -> Self {
        Self { options, shared, own: Mutex::default() }
    }

    /// Lets a request of this address pass, or says how long to wait.
    pub(crate) async fn admit(&self, address: IpAddr) -> Result<(), Problem> {
        let requests_max = self.options.requests_per_window_max;
        if requests_max == 0 {
            return Ok(());
        }
        let (network, window) = (network_of(address), Duration::from_millis(self.options.request_window_ms));
        let counted = match &self.shared {
            Some(shared) => shared.count(network, window).await,
            None => None,
        };
        let Counted { requests, left } = counted.unwrap_or_else(|| self.count(network, window, Instant::now()));
        if requests <= requests_max {
            return Ok(());
        }
        metrics::counter!(crate::metrics::REQUESTS_LIMITED).increment(1);
        Err(Problem::too_many(format!("{requests_max} requests in {} ms are allowed", window.as_millis()), left))
    }

    /// Counts within this process. Addresses beyond the bound are not counted: memory is worth more than a limit that a crowd evades anyhow.
    fn count(&self, address: IpAddr, window: Duration, now: Instant) -> Counted {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let current = own.take().filter(|current| now.duration_since(current.begun_at) < window);
        let current = own.insert(current.unwrap_or_else(|| Window { begun_at: now, requests: BTreeMap::new() }));
        let is_full = current.requests.len() >= self.options.limited_addresses_max;
        let requests = if is_full && !current.requests.contains_key(&address) {
            1
        } else {
            let requests = current.requests.entry(address).or_default();
            *requests += 1;
            *requests
        };
        Counted { requests, left: window.saturating_sub(now.duration_since(current.begun_at)) }
    }
}

/// Who is counted together: an IPv4 address, or a /64 of IPv6, which is what one customer has at least.
fn network_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(limited_addresses_max: usize) -> Limiter {
        Limiter::new(Arc::new(Options { limited_addresses_max, ..Options::default() }), None)
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_is_counted_alone_and_anew_in_each_window() {
        let (limiter, begun_at, window) = (limiter(10), Instant::now(), Duration::from_secs(10));
        let count = |text: &str, after_s| limiter.count(address(text), window, begun_at + Duration::from_secs(after_s));
        assert_eq!(count("10.0.0.1", 0), Counted { requests: 1, left: Duration::from_secs(10) });
        assert_eq!(count("10.0.0.1", 4), Counted { requests: 2, left: Duration::from_secs(6) });
        assert_eq!(count("10.0.0.2", 4).requests, 1);
        assert_eq!(count("10.0.0.1", 10), Counted { requests: 1, left: Duration::from_secs(10) }, "the next window");
    }

    #[test]
    fn beyond_the_bound_of_addresses_the_known_are_still_counted() {
        let (limiter, now, window) = (limiter(1), Instant::now(), Duration::from_secs(10));
        for requests in 1..=3 {
            assert_eq!(limiter.count(address("10.0.0.1"), window, now).requests, requests);
            assert_eq!(limiter.count(address("10.0.0.2"), window, now).requests, 1);
        }
    }

    #[test]
    fn ipv6_addresses_of_one_network_are_counted_together() {
        assert_eq!(network_of(address("2001:db8:0:1::7")), network_of(address("2001:db8:0:1:ffff::9")));
        assert_ne!(network_of(address("2001:db8:0:1::7")), network_of(address("2001:db8:0:2::7")));
        assert_ne!(network_of(address("10.0.0.1")), network_of(address("10.0.0.2")));
    }
}
