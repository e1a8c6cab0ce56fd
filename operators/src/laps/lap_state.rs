//! One lap: its versions folded, and what its times are as far as they can be told.

use pitwall_engine::Micros;
use pitwall_schemas::facts;
use pitwall_schemas::raw::Lap;
use pitwall_schemas::shared::Mark;
use serde::{Deserialize, Serialize};

use crate::known::{Known, Version, in_order};

/// Places of the times of one lap.
pub(super) const SECTOR_1: usize = 0;
pub(super) const SECTOR_2: usize = 1;
pub(super) const SECTOR_3: usize = 2;
pub(super) const LAP: usize = 3;

/// The mini-sector code of a car in the pit lane (OpenF1).
const PIT_SEGMENT: u16 = 2_064;

/// The three sectors and the lap, each in milliseconds.
pub(super) type Times = [Option<i32>; 4];

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LapState {
    pub(super) version: Version,
    pub(super) started_at: Known<Micros>,
    /// Whether the feed marks it as begun in the pit lane.
    is_pit_out_lap: Known<bool>,
    /// Whether the pit lane tells that it began there.
    pub(super) began_in_pit_lane: Known<bool>,
    /// Times as sent, ms.
    pub(super) sent: [Known<i32>; 4],
    /// Times that this lap's document carried but the lap before had driven, ms.
    pub(super) late: Times,
    /// Times as last said, ms: sent or inferred.
    pub(super) said: Times,
    /// How those compared when they were first said.
    pub(super) marks: [Mark; 4],
    /// At the two intermediates and the speed trap, km/h.
    speeds: [Known<i32>; 3],
    segments: [Known<Vec<u16>>; 3],
    /// Whether race control deleted it, and why.
    pub(super) is_deleted: Known<bool>,
    pub(super) deleted_reason: Option<String>,
    /// Whether it ended in the pit lane.
    pub(super) ended_in_pit_lane: Known<bool>,
    pub(super) began_after_the_end: bool,
    pub(super) qualifying_segment: Option<i32>,
    /// When it was first known to be driven: its first time, or what was known of it before.
    pub(super) driven_at: Micros,
    pub(super) flags: Flags,
    pub(super) is_said: bool,
}

/// What of a lap depends on more than its own documents, as last said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "four independent statements about one lap, as in its fact")]
pub(super) struct Flags {
    pub(super) is_pit_in_lap: bool,
    pub(super) is_accurate: bool,
    pub(super) is_interrupted: bool,
    pub(super) is_personal_best: bool,
}

/// A lap's times as far as they can be told.
pub(super) struct Told {
    pub(super) times: Times,
    pub(super) is_lap_inferred: bool,
    pub(super) is_sector_1_inferred: bool,
    /// The ledger record of the next lap's start, when the lap time was inferred from it.
    end_cause: Option<u64>,
}

impl LapState {
    /// A lap that is first known of at `now`.
    pub(super) fn new(now: Micros) -> Self {
        Self {
            version: Version::default(),
            started_at: Known::default(),
            is_pit_out_lap: Known::default(),
            began_in_pit_lane: Known::default(),
            sent: Default::default(),
            late: Times::default(),
            said: Times::default(),
            marks: [Mark::None; 4],
            speeds: Default::default(),
            segments: Default::default(),
            is_deleted: Known::default(),
            deleted_reason: None,
            ended_in_pit_lane: Known::default(),
            began_after_the_end: false,
            qualifying_segment: None,
            driven_at: now,
            flags: Flags::default(),
            is_said: false,
        }
    }

    /// The lap as it is when it begins again, as lap 1 does after an aborted start: nothing of it has been driven.
    pub(super) fn begun_again(&self, now: Micros) -> Self {
        Self { version: self.version, is_said: self.is_said, ..Self::new(now) }
    }

    /// Takes what a version that arrived at `now` says, but for its start and its times as they came: those are `times` by now.
    pub(super) fn fold(&mut self, document: &Lap, times: Times, seq: u64, now: Micros) -> bool {
        let is_untimed = self.sent.iter().all(|known| known.value().is_none());
        let mut has_changed = self.is_pit_out_lap.take(Some(document.is_pit_out_lap), seq);
        for (known, time) in self.sent.iter_mut().zip(times) {
            has_changed |= known.take(time, seq);
        }
        for (known, speed) in self.speeds.iter_mut().zip([document.i1_speed, document.i2_speed, document.st_speed]) {
            has_changed |= known.take(speed.map(|speed| speed.round() as i32), seq);
        }
        let sectors = [&document.segments_sector_1, &document.segments_sector_2, &document.segments_sector_3];
        for (known, codes) in self.segments.iter_mut().zip(sectors) {
            has_changed |= known.take(codes.as_deref().map(segment_codes), seq);
        }
        if is_untimed && has_changed {
            self.driven_at = now;
        }
        has_changed
    }

    /// The times, with what can be inferred of those that were not sent. `race_lap_1_end` is the start of lap 2 if this is lap 1 of a
    /// race.
    pub(super) fn tell(&self, is_race_lap_1: bool, race_lap_1_end: Option<&Known<Micros>>) -> Told {
        let mut times = self.sent.each_ref().map(|known| known.value().copied());
        let mut told = Told { times, is_lap_inferred: false, is_sector_1_inferred: false, end_cause: None };
        if times[LAP].is_none()
            && let [Some(sector_1), Some(sector_2), Some(sector_3), _] = times
        {
            times[LAP] = Some(sector_1 + sector_2 + sector_3);
            told.is_lap_inferred = true;
        }
        if is_race_lap_1 {
            told.is_lap_inferred = true;
            if times[LAP].is_none()
                && let (Some(start), Some(end)) = (self.started_at.value(), race_lap_1_end)
            {
                times[LAP] = end.value().and_then(|end| positive_milliseconds(end.since(*start)));
                told.end_cause = end.cause();
            }
            if let [None, Some(sector_2), Some(sector_3), Some(lap)] = times {
                times[SECTOR_1] = Some(lap - sector_2 - sector_3).filter(|time| *time > 0);
                told.is_sector_1_inferred = true;
            } else {
                told.is_sector_1_inferred = times[SECTOR_1].is_some() && self.sent[SECTOR_1].cause() == self.sent[LAP].cause();
            }
        }
        told.is_lap_inferred &= times[LAP].is_some();
        told.is_sector_1_inferred &= times[SECTOR_1].is_some();
        told.times = times;
        told
    }

    pub(super) fn causes(&self, told: &Told) -> Vec<u64> {
        in_order(
            [self.started_at.cause(), self.is_pit_out_lap.cause(), told.end_cause, self.is_deleted.cause()]
                .into_iter()
                .chain([self.ended_in_pit_lane.cause(), self.began_in_pit_lane.cause()])
                .chain(self.sent.iter().chain(&self.speeds).map(Known::cause))
                .chain(self.segments.iter().map(Known::cause)),
        )
    }

    pub(super) fn fact(&self, driver_number: i32, lap_number: i32, told: &Told) -> facts::Lap {
        let [sector_1_ms, sector_2_ms, sector_3_ms, lap_ms] = told.times;
        let [sector_1_mark, sector_2_mark, sector_3_mark, lap_mark] = self.marks;
        let lap_mark = if self.is_deleted() && lap_ms.is_some() { Mark::Yellow } else { lap_mark };
        let [i1_speed, i2_speed, st_speed] = self.speeds.each_ref().map(|known| known.value().copied());
        let [segments_1, segments_2, segments_3] =
            self.segments.each_ref().map(|known| known.value().into_iter().flatten().copied().map(i32::from).collect());
        facts::Lap {
            driver_number,
            lap_number,
            started_at: self.started_at.value().copied(),
            lap_ms,
            lap_inferred: told.is_lap_inferred,
            sector_1_ms,
            sector_2_ms,
            sector_3_ms,
            sector_1_inferred: told.is_sector_1_inferred,
            sector_1_mark,
            sector_2_mark,
            sector_3_mark,
            lap_mark,
            i1_speed,
            i2_speed,
            st_speed,
            is_pit_out_lap: self.is_pit_out_lap(),
            segments_1,
            segments_2,
            segments_3,
            is_complete: lap_ms.is_some(),
            is_deleted: self.is_deleted(),
            deleted_reason: self.deleted_reason.clone(),
            is_pit_in_lap: self.flags.is_pit_in_lap,
            is_accurate: self.flags.is_accurate,
            is_interrupted: self.flags.is_interrupted,
            is_personal_best: self.flags.is_personal_best,
            qualifying_segment: self.qualifying_segment,
            was_personal_best: matches!(lap_mark, Mark::Green | Mark::Purple),
        }
    }

    pub(super) fn is_deleted(&self) -> bool {
        self.is_deleted.value().copied().unwrap_or(false)
    }

    /// Whether it began in the pit lane, as far as known.
    pub(super) fn is_pit_out_lap(&self) -> bool {
        self.pit_out_cause().is_some() || self.began_in_pit_lane.value().is_some()
    }

    /// The ledger record in which the feed marked it as begun in the pit lane.
    pub(super) fn pit_out_cause(&self) -> Option<u64> {
        self.is_pit_out_lap.cause().filter(|_| self.is_pit_out_lap.value() == Some(&true))
    }

    /// The ledger record that put the car into the pit lane in sector 3.
    pub(super) fn pit_segment_cause(&self) -> Option<u64> {
        let segments = &self.segments[SECTOR_3];
        segments.cause().filter(|_| segments.value().is_some_and(|codes| codes.contains(&PIT_SEGMENT)))
    }
}

/// Mini-sector codes; 0 for none.
fn segment_codes(codes: &[Option<i32>]) -> Vec<u16> {
    codes.iter().map(|code| code.and_then(|code| u16::try_from(code).ok()).unwrap_or(0)).collect()
}

/// A duration as OpenF1 sends it, s, in ms; a duration of nothing is no time.
fn milliseconds(seconds: Option<f64>) -> Option<i32> {
    seconds.map(|seconds| (seconds * 1_000.0).round() as i32).filter(|time| *time > 0)
}

/// The times that a document carries, ms.
pub(super) fn times(document: &Lap) -> Times {
    [document.duration_sector_1, document.duration_sector_2, document.duration_sector_3, document.lap_duration].map(milliseconds)
}

/// A time span in µs as ms, if it is a time at all.
fn positive_milliseconds(micros: i64) -> Option<i32> {
    i32::try_from((micros + 500).div_euclid(1_000)).ok().filter(|time| *time > 0)
}
