//! A bench for one operator's tests: samples in, facts out, through the real sequencer and graph.

use std::collections::BTreeMap;

use pitwall_engine::Micros;
use pitwall_engine::graph::GraphBuilder;
use pitwall_engine::limits::Limits;
use pitwall_engine::operator::{Context, Handle, Issued, Operator};
use pitwall_engine::session::{Output, RawRecord, Session};
use pitwall_schemas::codec::{Fact, Reading};
use pitwall_schemas::facts;
use pitwall_schemas::raw::{self, CarData, Driver, Interval, Lap, Location, Pit, Position, RaceControl, Sample, Stint};
use pitwall_schemas::shared::{FactHeader, KnownAtQuality};

/// The session every fixture belongs to.
pub(crate) const SESSION: i32 = 9920;

/// `ms` after the fixtures' beginning, 2025-08-31T13:00:00Z.
pub(crate) fn at_ms(ms: i64) -> Micros {
    Micros(1_756_645_200_000_000 + ms * 1_000)
}

/// A graph under test with everything it said.
pub(crate) struct Bench {
    session: Session<Sample>,
    output: Output,
    ingest_seq: i64,
}

impl Bench {
    /// A bench around the operators that `add` puts into the graph.
    pub(crate) fn new(add: impl FnOnce(&mut GraphBuilder<Sample>)) -> Self {
        let mut graph = GraphBuilder::default();
        add(&mut graph);
        let graph = graph.build(Limits::default()).unwrap().for_session(SESSION, 0, KnownAtQuality::Received);
        Self { session: Session::new(SESSION, graph, Limits::default()), output: Output::default(), ingest_seq: 0 }
    }

    /// `sample` arrives `ms` after the beginning.
    pub(crate) fn arrive(&mut self, ms: i64, sample: Sample) {
        let raw = RawRecord {
            stream: sample.collection() as u16,
            partition: 0,
            offset: self.ingest_seq,
            ingest_seq: self.ingest_seq,
            received_at: at_ms(ms),
            payload: &[],
            event: Ok(sample),
        };
        self.session.take(&raw, &mut self.output).unwrap();
        self.ingest_seq += 1;
    }

    /// Each sample arrives at its ms; then what waits for the end of a packet is said.
    pub(crate) fn play(mut self, samples: impl IntoIterator<Item = (i64, Sample)>) -> Self {
        let mut last = 0;
        for (ms, sample) in samples {
            self.arrive(ms, sample);
            last = ms;
        }
        self.idle(last + 100);
        self
    }

    /// Time passes until `ms` after the beginning, so that due timers fire.
    pub(crate) fn idle(&mut self, ms: i64) {
        self.session.take_idle(at_ms(ms), &mut self.output).unwrap();
    }

    /// All facts of one kind so far.
    pub(crate) fn facts<F: Fact>(&self) -> Vec<(FactHeader, F)> {
        self.output
            .facts
            .iter()
            .filter(|fact| fact.kind.name == F::KIND)
            .map(|fact| {
                let (header, mut body) = fact.header().unwrap();
                (header, F::decode(&mut body).unwrap())
            })
            .collect()
    }

    /// The newest statement about each thing, in bytes: what tables of latest values hold.
    pub(crate) fn projection(&self) -> BTreeMap<(&'static str, Vec<u8>), Vec<u8>> {
        let newest = self.output.facts.iter().map(|fact| {
            let (_, body) = fact.header().unwrap();
            ((fact.kind.name, fact.key().unwrap()), body.rest().to_vec())
        });
        newest.collect()
    }

    /// What the operator of type `O` remembers now.
    pub(crate) fn state<O: Operator>(&self) -> &O::State {
        self.session.state_of::<O>().unwrap()
    }

    /// Reasons of all input refused so far.
    pub(crate) fn rejections(&self) -> Vec<String> {
        self.output.dead_letters.iter().map(|letter| letter.reason.clone()).collect()
    }
}

/// Passes places on. A driver's document disputes the place of its car, or ends that; one with a broadcast name disputes the next place that
/// the car comes to.
pub(crate) struct Disputes;

impl Operator for Disputes {
    const NAME: &'static str = "disputes_of_the_test";
    const VERSION: u32 = 1;
    type Output = facts::Position;
    type State = BTreeMap<i32, (Option<facts::Position>, bool)>;
}

impl Handle<facts::Position> for Disputes {
    fn apply(&self, state: &mut Self::State, position: &facts::Position, context: &mut Context<'_, facts::Position>) {
        let (newest, disputes_next) = state.entry(position.driver_number).or_default();
        let fact = facts::Position { disputed: std::mem::take(disputes_next), ..position.clone() };
        *newest = Some(fact.clone());
        context.emit(fact);
    }
}

impl Handle<Driver> for Disputes {
    fn apply(&self, state: &mut Self::State, document: &Driver, context: &mut Context<'_, facts::Position>) {
        let (newest, disputes_next) = state.entry(document.driver_number).or_default();
        match newest {
            Some(newest) if document.broadcast_name.is_none() => {
                (newest.disputed, newest.previous_position) = (!newest.disputed, Some(newest.position));
                context.emit(newest.clone());
            }
            _ => *disputes_next = true,
        }
    }
}

/// Passes passes through the pit lane on. A driver's document takes the newest back.
pub(crate) struct WithdrawsPasses;

impl Operator for WithdrawsPasses {
    const NAME: &'static str = "withdraws_passes_of_the_test";
    const VERSION: u32 = 1;
    type Output = facts::PitStop;
    type State = Option<(facts::PitStop, Issued)>;
}

impl Handle<facts::PitStop> for WithdrawsPasses {
    fn apply(&self, state: &mut Self::State, pass: &facts::PitStop, context: &mut Context<'_, facts::PitStop>) {
        let issued = context.emit(pass.clone());
        *state = Some((pass.clone(), issued));
    }
}

impl Handle<Driver> for WithdrawsPasses {
    fn apply(&self, state: &mut Self::State, _document: &Driver, context: &mut Context<'_, facts::PitStop>) {
        let Some((pass, issued)) = state.take() else { return };
        context.draft(pass).withdrawing(issued).emit();
    }
}

/// The same sample as from 2026 on, when there is no DRS.
pub(crate) fn without_drs(mut sample: Sample) -> Sample {
    if let Sample::CarData(sample) = &mut sample {
        sample.drs = None;
    }
    sample
}

pub(crate) fn car_data(driver_number: i32, date: Micros, speed: i32) -> Sample {
    Sample::from(CarData {
        meeting_key: 1267,
        session_key: SESSION,
        driver_number,
        date,
        rpm: 11_000,
        speed,
        n_gear: 8,
        throttle: 100,
        brake: 0,
        drs: Some(0),
        id: None,
    })
}

pub(crate) fn location(driver_number: i32, date: Micros, [x, y, z]: [i32; 3]) -> Sample {
    Sample::from(Location { meeting_key: 1267, session_key: SESSION, driver_number, date, x, y, z, id: None })
}

pub(crate) fn driver(driver_number: i32) -> Driver {
    Driver {
        meeting_key: 1267,
        session_key: SESSION,
        driver_number,
        broadcast_name: None,
        full_name: None,
        first_name: None,
        last_name: None,
        name_acronym: None,
        team_name: None,
        team_colour: None,
        headshot_url: None,
        country_code: None,
        id: None,
    }
}

/// The document of a session at a circuit, by OpenF1's number and short name.
pub(crate) fn session_at(circuit_key: Option<i32>, circuit_short_name: Option<&str>) -> raw::Session {
    let document = serde_json::json!({"meeting_key": 1267, "session_key": SESSION, "circuit_key": circuit_key,
        "circuit_short_name": circuit_short_name});
    let sample = Sample::from_json(raw::Collection::Sessions, document.as_object().unwrap()).unwrap();
    let Sample::Sessions(session) = sample else { panic!("a document of `sessions`") };
    *session
}

/// A version of a lap's document that says nothing yet.
pub(crate) fn lap(driver_number: i32, lap_number: i32) -> Lap {
    Lap {
        meeting_key: 1267,
        session_key: SESSION,
        driver_number,
        lap_number,
        date_start: None,
        duration_sector_1: None,
        duration_sector_2: None,
        duration_sector_3: None,
        lap_duration: None,
        i1_speed: None,
        i2_speed: None,
        st_speed: None,
        is_pit_out_lap: false,
        segments_sector_1: None,
        segments_sector_2: None,
        segments_sector_3: None,
        id: None,
    }
}

/// A message of race control that concerns nothing in particular; its `_id` rises with its date.
pub(crate) fn race_control(date: Micros, message: &str) -> RaceControl {
    RaceControl {
        meeting_key: 1267,
        session_key: SESSION,
        date,
        driver_number: None,
        lap_number: None,
        category: Some("Other".into()),
        flag: None,
        scope: None,
        sector: None,
        qualifying_phase: None,
        message: Some(message.into()),
        id: Some(date.0),
    }
}

pub(crate) fn position(driver_number: i32, date: Micros, position: i32) -> Position {
    Position { meeting_key: 1267, session_key: SESSION, driver_number, date, position, id: None }
}

/// A document of a car's gaps that says nothing.
pub(crate) fn interval(driver_number: i32, date: Micros) -> Interval {
    let (gap_to_leader, interval) = (Reading::Missing, Reading::Missing);
    Interval { meeting_key: 1267, session_key: SESSION, driver_number, date, gap_to_leader, interval, id: None }
}

/// A version of a stint's document that says nothing yet.
pub(crate) fn stint(driver_number: i32, stint_number: i32) -> Stint {
    Stint {
        meeting_key: 1267,
        session_key: SESSION,
        driver_number,
        stint_number,
        lap_start: None,
        lap_end: None,
        compound: None,
        tyre_age_at_start: None,
        id: None,
    }
}

/// A pass through the pit lane of which no duration is known.
pub(crate) fn pit(driver_number: i32, lap_number: i32, date: Micros) -> Pit {
    Pit {
        meeting_key: 1267,
        session_key: SESSION,
        driver_number,
        lap_number,
        date,
        lane_duration: None,
        stop_duration: None,
        pit_duration: None,
        id: None,
    }
}
