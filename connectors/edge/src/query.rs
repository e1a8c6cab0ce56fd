//! Query strings and path segments. What is not understood is refused, never ignored.

use std::str::FromStr;

use pitwall_schemas::moment::Moment;

use crate::problem::Problem;

/// Undoes percent-encoding. A `+` stays a plus: moments on the race clock begin with one.
pub(crate) fn decode(text: &str) -> Result<String, Problem> {
    let refuse = || Problem::bad_request("the URL holds a `%` that two hex digits do not follow, or bytes that are not UTF-8");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else { return Err(refuse()) };
        bytes.push((high * 16 + low) as u8);
    }
    String::from_utf8(bytes).map_err(|_| refuse())
}

/// The parameters of a request, taken one by one; what is left at the end is unknown.
#[derive(Debug)]
pub(crate) struct Parameters {
    left: Vec<(String, String)>,
    asked: Vec<&'static str>,
}

impl Parameters {
    pub(crate) fn read(query: Option<&str>) -> Result<Self, Problem> {
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let left = pairs.map(|pair| {
            let (name, value) =
                pair.split_once('=').ok_or_else(|| Problem::bad_request(format!("parameter `{pair}` has no value: write {pair}=…")))?;
            Ok((decode(name)?, decode(value)?))
        });
        Ok(Self { left: left.collect::<Result<_, Problem>>()?, asked: Vec::new() })
    }

    /// Every value of a parameter.
    pub(crate) fn all<T: FromStr>(&mut self, name: &'static str, expected: &str) -> Result<Vec<T>, Problem> {
        self.asked.push(name);
        let (taken, left) = std::mem::take(&mut self.left).into_iter().partition(|(given, _)| given == name);
        self.left = left;
        let taken: Vec<(String, String)> = taken;
        let refuse = |value: &str| Problem::bad_request(format!("`{name}={}` is not {expected}", shown(value)));
        taken.into_iter().map(|(_, value)| value.parse().map_err(|_| refuse(&value))).collect()
    }

    /// A parameter that may be given once.
    pub(crate) fn one<T: FromStr>(&mut self, name: &'static str, expected: &str) -> Result<Option<T>, Problem> {
        let mut values = self.all(name, expected)?;
        if values.len() > 1 {
            return Err(Problem::bad_request(format!("`{name}` is given {} times: give it once", values.len())));
        }
        Ok(values.pop())
    }

    /// The parameter `as_of`.
    pub(crate) fn as_of(&mut self) -> Result<Option<Moment>, Problem> {
        let text: Option<String> = self.one("as_of", "a moment")?;
        text.map(|text| text.parse().map_err(|error: pitwall_schemas::moment::NotAMoment| Problem::bad_request(error.to_string())))
            .transpose()
    }

    /// Ends the reading: whatever is left is unknown.
    pub(crate) fn finish(self) -> Result<(), Problem> {
        let Some((name, _)) = self.left.first() else { return Ok(()) };
        let known = if self.asked.is_empty() { "none".to_owned() } else { self.asked.join(", ") };
        Err(Problem::bad_request(format!("unknown parameter `{}`: known here: {known}", shown(name))))
    }
}

/// A client's text, short enough to be repeated to it.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_plus_stays_a_plus_whether_encoded_or_not() {
        for query in ["as_of=+0:42:10", "as_of=%2B0:42:10", "as_of=%2b0%3A42%3A10"] {
            let moment = Parameters::read(Some(query)).unwrap().as_of().unwrap();
            assert_eq!(moment, Some(Moment::RaceClock(2_530_000_000)), "{query}");
        }
    }

    #[test]
    fn an_unknown_parameter_is_named_with_the_known_ones() {
        let mut parameters = Parameters::read(Some("driver=4&driver=81&drivers=1")).unwrap();
        assert_eq!(parameters.all::<i32>("driver", "a car number").unwrap(), [4, 81]);
        assert_eq!(parameters.finish().unwrap_err().detail, "unknown parameter `drivers`: known here: driver");
    }

    #[test]
    fn a_parameter_without_value_given_twice_or_unreadable_is_refused() {
        assert!(Parameters::read(Some("history")).is_err());
        assert!(Parameters::read(Some("a=%4")).is_err());
        assert!(Parameters::read(Some("a=%ff")).is_err());
        assert!(Parameters::read(Some("from=1&from=2")).unwrap().one::<i32>("from", "a lap").is_err());
        assert!(Parameters::read(Some("from=x")).unwrap().one::<i32>("from", "a lap").is_err());
    }

    proptest! {
        #[test]
        fn no_query_makes_reading_panic(query in ".{0,200}") {
            if let Ok(mut parameters) = Parameters::read(Some(&query)) {
                let _ = parameters.as_of();
                let _ = parameters.all::<i32>("driver", "a car number");
                let _ = parameters.finish();
            }
        }

        #[test]
        fn percent_encoding_is_undone(text in "\\PC{0,40}") {
            let encoded: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
            prop_assert_eq!(decode(&encoded).unwrap(), text);
        }
    }
}
