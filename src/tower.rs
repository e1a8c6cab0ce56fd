//! The timing tower as text and as JSON, whether it comes from a replay or from a server.

use std::io::{self, Write};

use pitwall_engine::session::Session;
use pitwall_operators::race_clock::RaceClockOperator;
use pitwall_operators::timing::TimingOperator;
use pitwall_operators::track_status::TrackStatusOperator;
use pitwall_schemas::codec::Fact;
use pitwall_schemas::facts::{CarState, RaceClock, Status, Timing, TrackStatus};
use pitwall_schemas::raw::Sample;
use pitwall_schemas::shared::Mark;
use pitwall_schemas::time::Micros;
use serde::{Deserialize, Serialize};

use crate::report::{compound, lap_time};
use crate::table::Table;

/// The tower at one moment. As JSON it is what `/api/v1/sessions/{session}/timing` answers, without what each fact says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tower {
    pub(crate) session: i32,
    pub(crate) epoch: i32,
    /// The last ledger record in it.
    pub(crate) seq: u64,
    pub(crate) known_at: Micros,
    pub(crate) channel: String,
    pub(crate) rows: Vec<Timing>,
    /// Laps the leader has completed.
    #[serde(default)]
    pub(crate) laps_completed: Option<i32>,
    /// When the session started.
    #[serde(default)]
    pub(crate) started_at: Option<Micros>,
    #[serde(default)]
    pub(crate) track_status: Option<Status>,
}

impl Tower {
    /// The tower where a session stands.
    pub(crate) fn of(session: &Session<Sample>, session_key: i32, epoch: i32) -> Self {
        let sequencer = session.sequencer();
        let clock = session.state_of::<RaceClockOperator>();
        let mut tower = Self {
            session: session_key,
            epoch,
            seq: sequencer.next_seq().saturating_sub(1),
            known_at: sequencer.last_known_at().unwrap_or_default(),
            channel: Timing::KIND.to_owned(),
            rows: session.state_of::<TimingOperator>().into_iter().flat_map(|state| state.rows().cloned()).collect(),
            laps_completed: clock.map(|clock| clock.laps_completed()),
            started_at: clock.and_then(|clock| clock.started_at()),
            track_status: session.state_of::<TrackStatusOperator>().map(|state| state.status()),
        };
        tower.sort();
        tower
    }

    /// Adds what a server says on other channels.
    pub(crate) fn join(&mut self, clock: Option<&RaceClock>, track_status: Option<&TrackStatus>) {
        self.laps_completed = clock.map(|clock| clock.laps_completed);
        self.started_at = clock.and_then(|clock| clock.started_at);
        self.track_status = track_status.map(|track_status| track_status.status);
        self.sort();
    }

    fn sort(&mut self) {
        self.rows.sort_by_key(|row| (row.position.unwrap_or(i32::MAX), row.driver_number));
    }

    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        write!(out, "session {}, epoch {}, seq:{}, known at {}", self.session, self.epoch, self.seq, self.known_at)?;
        if let Some(laps) = self.laps_completed {
            write!(out, ", leader's laps {laps}")?;
        }
        if let Some(started_at) = self.started_at {
            let seconds = self.known_at.since(started_at).div_euclid(Micros::SECOND).max(0);
            write!(out, ", race clock +{}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)?;
        }
        if let Some(status) = self.track_status {
            write!(out, ", track {}", status.symbol())?;
        }
        writeln!(out, "\n")?;
        let mut table = Table::new(&[
            ">place",
            ">car",
            "",
            ">lap",
            ">gap",
            ">interval",
            ">last lap",
            "",
            ">best lap",
            ">on lap",
            "tyre",
            ">stops",
            "state",
        ]);
        for row in &self.rows {
            table.row(cells(row));
        }
        table.write(out)
    }
}

fn cells(row: &Timing) -> [String; 13] {
    let text = |value: Option<i32>| value.map(|value| value.to_string()).unwrap_or_default();
    let time = |ms: Option<i32>| ms.map(lap_time).unwrap_or_default();
    let tyre = row.compound.map(|of| format!("{} {}", compound(of), row.tyre_age.map_or_else(|| "?".to_owned(), |age| age.to_string())));
    [
        text(row.position),
        row.driver_number.to_string(),
        row.acronym.clone().unwrap_or_default(),
        text(row.lap_number),
        distance(row.gap_ms, row.laps_behind),
        distance(row.interval_ms, row.interval_laps),
        time(row.last_lap_ms),
        mark(row.last_lap_mark).to_owned(),
        time(row.best_lap_ms),
        text(row.best_lap_number),
        tyre.unwrap_or_default(),
        row.stops.to_string(),
        match row.state {
            CarState::Running => "",
            CarState::InPit => "in pit",
            CarState::PitOut => "pit out",
            CarState::Stopped => "stopped",
            CarState::Retired => "retired",
            CarState::DidNotStart => "did not start",
            CarState::Finished => "finished",
        }
        .to_owned(),
    ]
}

/// A gap or interval: whole laps when there are any.
fn distance(ms: Option<i32>, laps: Option<i32>) -> String {
    match (ms, laps) {
        (_, Some(laps)) if laps > 0 => format!("+{laps} {}", if laps == 1 { "LAP" } else { "LAPS" }),
        (Some(ms), _) => format!("+{}.{:03}", ms / 1_000, ms % 1_000),
        (None, _) => String::new(),
    }
}

/// The colours of the tower in words.
const fn mark(mark: Mark) -> &'static str {
    match mark {
        Mark::Purple => "purple",
        Mark::Green => "green",
        Mark::Yellow | Mark::None => "",
    }
}
