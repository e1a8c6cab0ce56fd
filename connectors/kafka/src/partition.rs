//! The partition of a session: what Kafka's own clients compute from the key.

/// A session's message key, as every consumer sees it: its number in decimal.
#[must_use]
pub fn key(session_key: i32) -> String {
    session_key.to_string()
}

/// The partition that holds a session, the same in every topic: murmur2 of the key, as Java clients and librdkafka's `murmur2_random`
/// choose it.
///
/// # Panics
/// When `partitions` is 0.
#[must_use]
pub fn of(session_key: i32, partitions: i32) -> i32 {
    assert!(partitions > 0, "a topic has a partition");
    (murmur2(key(session_key).as_bytes()) & 0x7fff_ffff) as i32 % partitions
}

/// MurmurHash2, 32 bits, with Kafka's seed (`org.apache.kafka.common.utils.Utils.murmur2`).
fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    let mut hash = SEED ^ data.len() as u32;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = words.remainder();
    for (index, &byte) in rest.iter().enumerate() {
        hash ^= u32::from(byte) << (8 * index);
    }
    if !rest.is_empty() {
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ hash >> 15
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    fn the_hash_is_the_one_of_kafkas_java_client() {
        for (data, expected) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ] {
            assert_eq!(murmur2(data.as_bytes()) as i32, expected, "{data}");
        }
    }

    #[test]
    fn every_partition_is_used() {
        let used: std::collections::BTreeSet<i32> = (9_000..9_100).map(|session_key| of(session_key, 8)).collect();
        assert_eq!(used, (0..8).collect());
    }
}
