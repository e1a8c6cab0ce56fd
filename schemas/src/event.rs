//! What an event source is to the engine: a union of typed streams.

use crate::openf1::Refusal;
use crate::time::Micros;

/// The union of all raw streams of a session. The engine is generic over it and so knows no Formula 1.
pub trait Event: Sized + 'static {
    /// The streams, by number; numbers are never stored, names are.
    const STREAMS: &'static [&'static str];

    /// Reads one raw record of stream number `stream`.
    ///
    /// # Errors
    /// When the bytes are not a valid record of that stream; the reason goes to the dead letters.
    fn decode(stream: u16, payload: &[u8]) -> Result<Self, Refusal>;

    /// The number of the stream it came from.
    fn stream(&self) -> u16;

    /// The session it belongs to.
    fn session_key(&self) -> i32;

    /// When it happened, if it says so.
    fn event_time(&self) -> Option<Micros>;
}

/// An event source that carries records of type `T` on one of its streams.
pub trait Carries<T>: Event {
    /// The number of that stream.
    const STREAM: u16;

    /// The record, when this event is one of that stream.
    fn get(&self) -> Option<&T>;
}

impl Event for crate::raw::Sample {
    const STREAMS: &'static [&'static str] = &COLLECTION_NAMES;

    #[inline]
    fn decode(stream: u16, payload: &[u8]) -> Result<Self, Refusal> {
        let collection = crate::raw::Collection::ALL.get(usize::from(stream)).copied().ok_or(Refusal::UnknownStream(stream))?;
        let mut reader = crate::codec::Reader::new(payload);
        let sample = Self::decode(collection, &mut reader)?;
        reader.finish()?;
        Ok(sample)
    }

    #[inline]
    fn stream(&self) -> u16 {
        self.collection() as u16
    }

    #[inline]
    fn session_key(&self) -> i32 {
        self.session_key()
    }

    #[inline]
    fn event_time(&self) -> Option<Micros> {
        self.event_time()
    }
}

const COLLECTION_NAMES: [&str; crate::raw::Collection::ALL.len()] = {
    let mut names = [""; crate::raw::Collection::ALL.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = crate::raw::Collection::ALL[index].name();
        index += 1;
    }
    names
};
