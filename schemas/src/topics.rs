//! Topic names. All topics of one deployment share a partition count and the key `session_key`.

/// Version of every topic's schema line; an incompatible change makes a new topic.
const VERSION: &str = "v1";

/// The ledger's topic.
pub const LEDGER: &str = "pitwall.ledger.v1";
/// The keyframes' topic, compacted.
pub const KEYFRAMES: &str = "pitwall.keyframes.v1";
/// Where bad input goes, with its reason and source.
pub const DEAD_LETTERS: &str = "pitwall.dead_letters.v1";
/// Parameters, model switches and answers of effects.
pub const CONTROL: &str = "pitwall.control.v1";
/// Which source feeds a session and how far it got, compacted.
pub const SOURCES: &str = "pitwall.sources.v1";
/// Sessions whose readers are to see an epoch before the newest, compacted.
pub const READERS: &str = "pitwall.readers.v1";

/// The topic of a raw OpenF1 collection, e.g. `openf1.car_data.v1`.
#[must_use]
pub fn raw(collection: &str) -> String {
    format!("openf1.{collection}.{VERSION}")
}

/// The topic of a fact kind, e.g. `pitwall.laps.v1`.
#[must_use]
pub fn facts(kind: &str) -> String {
    format!("pitwall.{kind}.{VERSION}")
}
