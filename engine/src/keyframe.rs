//! Keyframes: the whole state of a session after one ledger record.
//!
//! They are advisory. Any older one, or none, gives the same result later; one that cannot be read is skipped.

use pitwall_schemas::log::Keyframe;
use postcard::ser_flavors::Flavor;
use serde::{Deserialize, Serialize};

use crate::graph::{LoadError, SavedGraph};
use crate::hash::{Digest, RunningHash};
use crate::sequencer::Sequencer;

/// Version of the state codec written.
pub const FORMAT: i32 = 1;

/// States larger than this are not restored: far above any real session, far below harm.
const STATE_BYTES_MAX: usize = 256 << 20;

/// What a keyframe's bytes hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedSession {
    pub(crate) sequencer: Sequencer,
    pub(crate) graph: SavedGraph,
    pub(crate) facts_hash: RunningHash,
}

/// Why a keyframe cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyframeError {
    /// It was written by a later version.
    #[error("keyframe format {0} is newer than {FORMAT}: use a newer pitwall")]
    Format(i32),
    /// It is of another graph.
    #[error("the keyframe is of another graph")]
    OtherGraph,
    /// Its bytes are damaged.
    #[error("the keyframe is damaged: {0}")]
    Damaged(String),
    /// Its state is of other operators.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// Level of compression: a fast one. On the Dutch race it takes a third off the time of keyframes against level 1, for a quarter more bytes.
const COMPRESSION_LEVEL: i32 = -5;

/// Bytes of a state being written. Nearly all of what is written are numbers of a few bytes, for which a call that copies costs more than
/// the copy.
struct Bytes(Vec<u8>);

impl Flavor for Bytes {
    type Output = Vec<u8>;

    #[inline]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    #[inline]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        if bytes.len() <= 10 {
            self.0.extend(bytes.iter().copied());
        } else {
            self.0.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn finalize(self) -> postcard::Result<Vec<u8>> {
        Ok(self.0)
    }
}

/// Appends a state to `bytes`.
pub(crate) fn write_state<T: Serialize>(state: &T, bytes: Vec<u8>) -> Vec<u8> {
    postcard::serialize_with_flavor(state, Bytes(bytes)).expect("operator states hold only serialisable values")
}

/// Packs states. Its working memory is made once: making it costs as much as compressing a state.
#[derive(Default)]
pub(crate) struct Packer {
    compressor: Option<zstd::bulk::Compressor<'static>>,
    state: Vec<u8>,
    packed: Vec<u8>,
}

impl Packer {
    /// A state's hash and its compressed bytes.
    pub(crate) fn pack(&mut self, saved: &SavedSession) -> (Digest, Vec<u8>) {
        self.state.clear();
        self.state = write_state(saved, std::mem::take(&mut self.state));
        let compressor =
            self.compressor.get_or_insert_with(|| zstd::bulk::Compressor::new(COMPRESSION_LEVEL).expect("the level is one zstd has"));
        self.packed.clear();
        self.packed.reserve(zstd::zstd_safe::compress_bound(self.state.len()));
        compressor.compress_to_buffer(&self.state, &mut self.packed).expect("compression into enough memory succeeds");
        (Digest::of(&self.state), self.packed.clone())
    }
}

/// Unpacks a keyframe's state and checks it against its hash.
pub(crate) fn unpack(keyframe: &Keyframe, graph_hash: Digest) -> Result<SavedSession, KeyframeError> {
    if keyframe.format != FORMAT {
        return Err(KeyframeError::Format(keyframe.format));
    }
    if keyframe.graph_hash != graph_hash.0 {
        return Err(KeyframeError::OtherGraph);
    }
    let damaged = |error: String| KeyframeError::Damaged(error);
    let state = zstd::bulk::decompress(&keyframe.bytes, state_length(&keyframe.bytes)?).map_err(|error| damaged(error.to_string()))?;
    if Digest::of(&state).0 != keyframe.state_hash {
        return Err(damaged("its state does not have the hash it names".to_owned()));
    }
    postcard::from_bytes(&state).map_err(|error| damaged(error.to_string()))
}

fn state_length(packed: &[u8]) -> Result<usize, KeyframeError> {
    let length = zstd::zstd_safe::get_frame_content_size(packed).ok().flatten();
    length
        .and_then(|length| usize::try_from(length).ok())
        .filter(|&length| length <= STATE_BYTES_MAX)
        .ok_or_else(|| KeyframeError::Damaged(format!("it does not say its length, or more than {STATE_BYTES_MAX} bytes")))
}
