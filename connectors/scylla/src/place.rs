//! In which partition of `history` a fact lies.

use pitwall_schemas::codec::{Avro, Reader};

/// The kind whose facts lie in partitions of their drivers: it has more of them than all others together, and readers want one driver's.
const BY_DRIVER: &str = "telemetry";

/// Facts of a session that share a bucket: no partition has more rows. It can never change, since readers work out the bucket.
const BUCKET_FACTS: u64 = 1 << 16;

/// A partition of `history`, its session, generation and epoch left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) kind: &'static str,
    pub(crate) bucket: i32,
    pub(crate) driver_number: i32,
}

/// The bucket of a fact. Numbers that no session reaches share the last one.
pub(crate) fn bucket_of(fact_seq: u64) -> i32 {
    i32::try_from(fact_seq / BUCKET_FACTS).unwrap_or(i32::MAX)
}

/// The driver whose partitions a fact about `key` lies in; 0 for kinds that are not divided. The key of a kind that is begins with it.
pub(crate) fn driver_of(kind: &str, key: &[u8]) -> i32 {
    if kind == BY_DRIVER { i32::decode(&mut Reader::new(key)).unwrap_or(0) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_as_many_facts_as_the_tables_say() {
        assert_eq!([0, 65_535, 65_536, 131_072].map(bucket_of), [0, 0, 1, 2]);
        assert_eq!(bucket_of(u64::MAX), i32::MAX);
        assert!(include_str!("../migrations/0001_facts.cql").contains(&format!("bucket is fact_seq / {BUCKET_FACTS},")));
    }

    #[test]
    fn telemetry_is_divided_by_driver_and_nothing_else_is() {
        let mut key = Vec::new();
        4_i32.encode(&mut key);
        1_i32.encode(&mut key);
        assert_eq!((driver_of("telemetry", &key), driver_of("laps", &key)), (4, 0));
    }
}
