//! Names of everything on Redis: `{prefix}pitwall:{what}:1:{of}`, where 1 is the version of how values are written.

use std::net::IpAddr;

/// Makes the names of one deployment.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    prefix: String,
}

impl Keys {
    /// Those of the deployment whose topics begin with `prefix`.
    pub(crate) fn new(prefix: &str) -> Self {
        Self { prefix: format!("{prefix}pitwall:") }
    }

    pub(crate) fn answer(&self, of: &str) -> String {
        format!("{}answer:1:{of}", self.prefix)
    }

    pub(crate) fn turn(&self, of: &str) -> String {
        format!("{}turn:1:{of}", self.prefix)
    }

    pub(crate) fn requests(&self, address: IpAddr) -> String {
        format!("{}requests:1:{address}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deployments_and_kinds_of_keys_are_apart() {
        let (monza, none) = (Keys::new("monza-"), Keys::new(""));
        assert_eq!(monza.answer("9920:0:7"), "monza-pitwall:answer:1:9920:0:7");
        assert_eq!(none.turn("9920:0:7"), "pitwall:turn:1:9920:0:7");
        assert_eq!(none.requests("::1".parse().unwrap()), "pitwall:requests:1:::1");
    }
}
