//! The running hash that stands in every keyframe.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A BLAKE3 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}")
    }
}

/// A text that is not 64 hex digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a hash is 64 hex digits")]
pub struct NotADigest;

impl FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        blake3::Hash::from_hex(text).map(|hash| Self(*hash.as_bytes())).map_err(|_| NotADigest)
    }
}

/// Length of the pieces the stream is hashed in: BLAKE3 is fastest on some, and a keyframe stores at most one.
const PIECE: usize = 16 * 1_024;

/// A hash of a growing byte stream whose state can be stored and taken up again.
///
/// The stream is cut every 16 KiB and each piece is hashed together with the digest before it, so the result depends on the bytes
/// alone, never on how they were batched. BLAKE3's own hasher cannot be stored; this can.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct RunningHash {
    /// The digest of all pieces before, and behind it the piece that grows: BLAKE3 hashes several times as fast what lies in one place.
    link: Vec<u8>,
    length: u64,
}

/// A [`RunningHash`] as keyframes hold it.
#[derive(Serialize, Deserialize)]
struct Stored {
    chain: Digest,
    length: u64,
    #[serde(with = "serde_bytes")]
    pending: Vec<u8>,
}

const CHAIN: usize = size_of::<Digest>();

impl Default for RunningHash {
    fn default() -> Self {
        Self::new(Digest::default(), 0, &[])
    }
}

impl RunningHash {
    fn new(chain: Digest, length: u64, pending: &[u8]) -> Self {
        let mut link = Vec::with_capacity(CHAIN + PIECE);
        link.extend_from_slice(&chain.0);
        link.extend_from_slice(pending);
        Self { link, length }
    }

    /// Takes more bytes of the stream.
    pub fn update(&mut self, mut bytes: &[u8]) {
        self.length += bytes.len() as u64;
        while self.link.len() + bytes.len() >= CHAIN + PIECE {
            let (head, tail) = bytes.split_at(CHAIN + PIECE - self.link.len());
            self.link.extend_from_slice(head);
            let chain = Digest::of(&self.link);
            self.link.clear();
            self.link.extend_from_slice(&chain.0);
            bytes = tail;
        }
        self.link.extend_from_slice(bytes);
    }

    /// The hash of everything taken so far.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let (chain, pending) = self.link.split_at(CHAIN);
        let mut hasher = blake3::Hasher::new();
        hasher.update(chain).update(&self.length.to_le_bytes()).update(pending);
        Digest(*hasher.finalize().as_bytes())
    }
}

impl From<Stored> for RunningHash {
    fn from(stored: Stored) -> Self {
        Self::new(stored.chain, stored.length, &stored.pending)
    }
}

impl From<RunningHash> for Stored {
    fn from(hash: RunningHash) -> Self {
        let (chain, pending) = hash.link.split_at(CHAIN);
        let chain = Digest(chain.try_into().expect("the link begins with a digest"));
        Self { chain, length: hash.length, pending: pending.to_vec() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_hash_does_not_depend_on_how_the_stream_was_cut(stream in prop::collection::vec(any::<u8>(), 0..50_000), cuts in prop::collection::vec(1_usize..20_000, 0..20)) {
            let mut whole = RunningHash::default();
            whole.update(&stream);
            let mut pieces = RunningHash::default();
            let mut rest = stream.as_slice();
            for cut in cuts {
                let (head, tail) = rest.split_at(cut.min(rest.len()));
                pieces.update(head);
                // Stored and taken up again, as a keyframe does.
                let stored = postcard::to_stdvec(&pieces).expect("a hash state is storable");
                pieces = postcard::from_bytes(&stored).expect("a stored hash state is readable");
                rest = tail;
            }
            pieces.update(rest);
            prop_assert_eq!(whole.digest(), pieces.digest());
        }

        #[test]
        fn one_changed_byte_changes_the_hash(mut stream in prop::collection::vec(any::<u8>(), 1..40_000), at in any::<prop::sample::Index>()) {
            let mut before = RunningHash::default();
            before.update(&stream);
            let at = at.index(stream.len());
            stream[at] ^= 1;
            let mut after = RunningHash::default();
            after.update(&stream);
            prop_assert_ne!(before.digest(), after.digest());
        }
    }

    #[test]
    fn a_digest_prints_as_hex_and_reads_back() {
        let digest = Digest::of(b"pitwall");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!("beef".parse::<Digest>(), Err(NotADigest));
    }
}
