//! Keys whose order as bytes is the order of what they name.

/// A session's prefix. The sign bit is flipped, so that negative numbers sort before positive ones.
pub(crate) fn session(session_key: i32) -> [u8; 4] {
    flip(session_key).to_be_bytes()
}

/// The session that a key begins with.
pub(crate) fn session_of(key: &[u8]) -> Option<i32> {
    key.first_chunk().map(|bytes| (u32::from_be_bytes(*bytes) ^ (1 << 31)) as i32)
}

/// A number within a session: a ledger record, a moment.
pub(crate) fn numbered(session_key: i32, number: u64) -> Vec<u8> {
    let mut key = session(session_key).to_vec();
    key.extend_from_slice(&number.to_be_bytes());
    key
}

/// An epoch of a session.
pub(crate) fn epoch(session_key: i32, epoch: i32) -> Vec<u8> {
    let mut key = session(session_key).to_vec();
    key.extend_from_slice(&flip(epoch).to_be_bytes());
    key
}

/// A fact number within an epoch.
pub(crate) fn fact(session_key: i32, at: i32, fact_seq: u64) -> Vec<u8> {
    let mut key = epoch(session_key, at);
    key.extend_from_slice(&fact_seq.to_be_bytes());
    key
}

/// A kind within an epoch. Kind names hold no zero byte, so none is a prefix of another.
pub(crate) fn kind(session_key: i32, at: i32, name: &str) -> Vec<u8> {
    let mut key = epoch(session_key, at);
    key.extend_from_slice(name.as_bytes());
    key.push(0);
    key
}

/// A keyframe.
pub(crate) fn keyframe(session_key: i32, graph_hash: &[u8; 32], seq: u64) -> Vec<u8> {
    let mut key = session(session_key).to_vec();
    key.extend_from_slice(graph_hash);
    key.extend_from_slice(&seq.to_be_bytes());
    key
}

/// The number that a key ends with.
pub(crate) fn last_number(key: &[u8]) -> Option<u64> {
    key.last_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

/// The time as a number whose order is the time's.
pub(crate) const fn time(micros: i64) -> u64 {
    micros as u64 ^ (1 << 63)
}

const fn flip(number: i32) -> u32 {
    number as u32 ^ (1 << 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_as_what_they_name() {
        let sessions = [i32::MIN, -1, 0, 1, 9_920, i32::MAX];
        assert!(sessions.map(session).is_sorted());
        assert_eq!(sessions.map(|key| session_of(&session(key))), sessions.map(Some));
        assert!([-1, 0, 1, 300].map(|seq| fact(7, 0, seq as u64)).is_sorted_by_key(|key| last_number(key).map(|seq| seq as i64)));
        assert!([i64::MIN, -1, 0, 1_756_000_000_000_000].map(time).is_sorted());
        assert!(kind(7, 0, "laps") < kind(7, 0, "laps_extra") && !kind(7, 0, "laps_extra").starts_with(&kind(7, 0, "laps")));
    }
}
