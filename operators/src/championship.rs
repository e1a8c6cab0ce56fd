//! Championship: `championship_drivers` and `championship_teams` documents, with the points of the provisional classification added to
//! those before the session: the standings as they would be if the session ended like this.
//!
//! Rules: a driver who is not in the session adds nothing; while the points of one who is are unknown, so is his sum, and his team's.
//! Places go by points; equal points share a place here, where the regulations count wins. A standing that did not change is silent.

use std::collections::BTreeMap;

use pitwall_engine::operator::{Context, Handle, Issued, Operator};
use pitwall_schemas::facts::{Basis, Championship, ChampionshipKind, Classification, Driver};
use pitwall_schemas::raw::{ChampionshipDriver, ChampionshipTeam};
use serde::{Deserialize, Serialize};

use crate::by_driver::ByDriver;
use crate::known::Version;

/// Adds up the standings.
#[derive(Debug, Clone, Copy)]
pub struct ChampionshipOperator {
    /// Teams of one championship at most. Another is rejected: there are 11.
    pub teams_max: usize,
    /// Longest name of a team, bytes. A document with a longer one is rejected.
    pub team_name_bytes_max: usize,
}

impl Default for ChampionshipOperator {
    fn default() -> Self {
        Self { teams_max: 64, team_name_bytes_max: 256 }
    }
}

/// The standings and what they are added up from.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    drivers: BTreeMap<i32, Standing>,
    teams: BTreeMap<String, Standing>,
    team_of: ByDriver<String>,
    /// Points of the provisional classification; a car without an entry is not in the session.
    points: ByDriver<Option<f64>>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Standing {
    version: Version,
    position_start: Option<i32>,
    points_start: Option<f64>,
    position_published: Option<i32>,
    points_published: Option<f64>,
    said: Option<Championship>,
    issued: Option<Issued>,
}

impl Standing {
    /// Takes a version and tells whether it is news.
    fn take(&mut self, version: Option<i64>, positions: [Option<i32>; 2], points: [Option<f64>; 2]) -> bool {
        if !self.version.take(version) {
            return false;
        }
        // A null is the absence of news.
        self.position_start = positions[0].or(self.position_start);
        self.position_published = positions[1].or(self.position_published);
        self.points_start = points[0].or(self.points_start);
        self.points_published = points[1].or(self.points_published);
        true
    }

    fn say(&mut self, of: Row, all: &[f64], context: &mut Context<'_, Championship>) {
        let is_ahead = |own: f64| all.iter().filter(|points| **points > own).count() as i32;
        let fact = Championship {
            championship: of.championship,
            name: of.name,
            driver_number: of.driver_number,
            position_start: self.position_start,
            points_start: self.points_start,
            position_published: self.position_published,
            points_published: self.points_published,
            points_as_it_stands: of.points,
            position_as_it_stands: of.points.map(|points| is_ahead(points) + 1),
        };
        if self.said.as_ref() == Some(&fact) {
            return;
        }
        // Published points that change are a correction; the race goes on without being one.
        let published = self.said.as_ref().map(|said| (said.position_published, said.points_published));
        let is_correction = published.is_some_and(|said| said != (self.position_published, self.points_published));
        self.said = Some(fact.clone());
        self.issued = Some(context.draft(fact).correcting(self.issued.filter(|_| is_correction)).emit());
    }
}

/// Whose standing it is, with its points as it stands.
struct Row {
    championship: ChampionshipKind,
    name: String,
    driver_number: Option<i32>,
    points: Option<f64>,
}

impl State {
    /// Points of this session; `None` when they cannot be told.
    fn driver_points(&self, driver_number: i32) -> Option<f64> {
        self.points.get(driver_number).copied().unwrap_or(Some(0.0))
    }

    fn team_points(&self, team: &str) -> Option<f64> {
        let mut cars = self.team_of.iter().filter(|(_, of)| *of == team).map(|(driver_number, _)| driver_number).peekable();
        cars.peek()?;
        cars.map(|driver_number| self.driver_points(driver_number)).sum()
    }

    fn say(&mut self, context: &mut Context<'_, Championship>) {
        if self.points.is_empty() && self.drivers.is_empty() && self.teams.is_empty() {
            return;
        }
        let has_session = !self.points.is_empty();
        let sum = |start: Option<f64>, points: Option<f64>| start.zip(points.filter(|_| has_session)).map(|(start, points)| start + points);
        let drivers: Vec<_> =
            self.drivers.iter().map(|(number, standing)| (*number, sum(standing.points_start, self.driver_points(*number)))).collect();
        let all: Vec<f64> = drivers.iter().filter_map(|(_, points)| *points).collect();
        let teams: Vec<_> =
            self.teams.iter().map(|(name, standing)| (name.clone(), sum(standing.points_start, self.team_points(name)))).collect();
        for (driver_number, points) in drivers {
            let row = Row {
                championship: ChampionshipKind::Drivers,
                name: driver_number.to_string(),
                driver_number: Some(driver_number),
                points,
            };
            if let Some(standing) = self.drivers.get_mut(&driver_number) {
                standing.say(row, &all, context);
            }
        }
        let all: Vec<f64> = teams.iter().filter_map(|(_, points)| *points).collect();
        for (name, points) in teams {
            if let Some(standing) = self.teams.get_mut(&name) {
                standing.say(Row { championship: ChampionshipKind::Teams, name, driver_number: None, points }, &all, context);
            }
        }
    }
}

impl Operator for ChampionshipOperator {
    const NAME: &'static str = "championship";
    const VERSION: u32 = 2;
    type Output = Championship;
    type State = State;

    fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![("teams_max", self.teams_max.to_string()), ("team_name_bytes_max", self.team_name_bytes_max.to_string())]
    }
}

impl Handle<ChampionshipDriver> for ChampionshipOperator {
    fn apply(&self, state: &mut State, document: &ChampionshipDriver, context: &mut Context<'_, Championship>) {
        let standing = state.drivers.entry(document.driver_number).or_default();
        let points = [document.points_start, document.points_current];
        if standing.take(document.id, [document.position_start, document.position_current], points) {
            state.say(context);
        }
    }
}

impl Handle<ChampionshipTeam> for ChampionshipOperator {
    fn apply(&self, state: &mut State, document: &ChampionshipTeam, context: &mut Context<'_, Championship>) {
        if document.team_name.len() > self.team_name_bytes_max {
            let bytes = document.team_name.len();
            return context.reject(format!("a team's name has {bytes} bytes, more than {}", self.team_name_bytes_max));
        }
        if !state.teams.contains_key(&document.team_name) && state.teams.len() >= self.teams_max {
            return context.reject(format!("the championship has more than {} teams", self.teams_max));
        }
        let standing = state.teams.entry(document.team_name.clone()).or_default();
        let points = [document.points_start, document.points_current];
        if standing.take(document.id, [document.position_start, document.position_current], points) {
            state.say(context);
        }
    }
}

impl Handle<Driver> for ChampionshipOperator {
    fn apply(&self, state: &mut State, driver: &Driver, context: &mut Context<'_, Championship>) {
        let Some(team) = &driver.team_name else { return };
        if state.team_of.get(driver.driver_number) != Some(team) {
            state.team_of.entry(driver.driver_number).clone_from(team);
            state.say(context);
        }
    }
}

impl Handle<Classification> for ChampionshipOperator {
    fn apply(&self, state: &mut State, line: &Classification, context: &mut Context<'_, Championship>) {
        if line.basis == Basis::Provisional && state.points.get(line.driver_number) != Some(&line.points) {
            *state.points.entry(line.driver_number) = line.points;
            state.say(context);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, SESSION, at_ms, driver, position, race_control};
    use pitwall_schemas::raw::{self, RaceControl, Sample, Session};

    fn standing(driver_number: i32, points: f64) -> Sample {
        Sample::from(ChampionshipDriver {
            meeting_key: 1267,
            session_key: SESSION,
            driver_number,
            position_start: None,
            position_current: None,
            points_start: Some(points),
            points_current: None,
            id: None,
        })
    }

    fn team(points: f64, current: Option<f64>) -> Sample {
        Sample::from(ChampionshipTeam {
            meeting_key: 1267,
            session_key: SESSION,
            team_name: "McLaren".into(),
            position_start: Some(1),
            position_current: None,
            points_start: Some(points),
            points_current: current,
            id: None,
        })
    }

    fn newest(bench: &Bench, name: &str) -> Championship {
        bench.facts::<Championship>().into_iter().rfind(|(_, fact)| fact.name == name).unwrap().1
    }

    /// A race of cars 81 and 4, which are of one team, and 1; car 99 is not in it.
    fn race() -> Bench {
        let mut bench = Bench::new(crate::join);
        bench.arrive(0, {
            let mut session = Session {
                session_name: Some("Race".into()),
                session_type: Some("Race".into()),
                year: Some(2025),
                ..crate::testing::session_at(None, None)
            };
            session.circuit_short_name = Some("Zandvoort".into());
            Sample::from(session)
        });
        for car in [81, 4] {
            bench.arrive(0, Sample::from(raw::Driver { team_name: Some("McLaren".into()), ..driver(car) }));
        }
        for (car, points) in [(81, 284.0), (4, 275.0), (1, 187.0), (99, 300.0)] {
            bench.arrive(0, standing(car, points));
        }
        bench.arrive(0, team(559.0, None));
        let (category, lap_number) = (Some("SessionStatus".into()), Some(1));
        bench.arrive(1, Sample::from(RaceControl { category, lap_number, ..race_control(at_ms(1), "SESSION STARTED") }));
        for (place, car) in (1..).zip([4, 81, 1]) {
            bench.arrive(10, Sample::from(position(car, at_ms(10), place)));
        }
        for (car, _) in [(4, 0), (81, 0), (1, 0)] {
            bench.arrive(20, Sample::from(crate::testing::lap(car, 1)));
        }
        bench.idle(2_000);
        bench
    }

    #[test]
    fn points_of_the_places_now_are_added_to_those_before_the_session() {
        let bench = race();
        let stands = |name| (newest(&bench, name).points_as_it_stands, newest(&bench, name).position_as_it_stands);
        assert_eq!([stands("81"), stands("4"), stands("1")], [(Some(302.0), Some(1)), (Some(300.0), Some(2)), (Some(202.0), Some(4))]);
        assert_eq!(stands("99"), (Some(300.0), Some(2)), "not in the session; equal points share a place");
        assert_eq!(stands("McLaren"), (Some(602.0), Some(1)));
    }

    #[test]
    fn a_disqualified_driver_adds_nothing_and_his_teams_sum_stays_known() {
        let mut bench = race();
        bench.arrive(3_000, Sample::from(race_control(at_ms(3_000), "FIA STEWARDS: CAR 4 (NOR) DISQUALIFIED - TECHNICAL INFRINGEMENT")));
        let stands = |name| newest(&bench, name).points_as_it_stands;
        // Car 81 moves up to the first place.
        assert_eq!([stands("4"), stands("81"), stands("McLaren")], [Some(275.0), Some(309.0), Some(584.0)]);
    }

    #[test]
    fn without_a_session_nothing_stands_as_it_is_now() {
        let mut bench = Bench::new(crate::join);
        bench.arrive(0, standing(81, 284.0));
        assert_eq!((newest(&bench, "81").points_start, newest(&bench, "81").points_as_it_stands), (Some(284.0), None));
    }

    #[test]
    fn more_teams_than_the_limit_and_longer_names_are_rejected() {
        let mut bench = Bench::new(|graph| {
            let operator = ChampionshipOperator { teams_max: 1, team_name_bytes_max: 7 };
            graph.publish(operator, |inputs| inputs.samples::<ChampionshipTeam>());
        });
        let Sample::ChampionshipTeams(mclaren) = team(559.0, None) else { panic!("a team's document") };
        for name in ["McLaren", "Ferrari", "Mercedes"] {
            bench.arrive(0, Sample::from(ChampionshipTeam { team_name: name.into(), ..(*mclaren).clone() }));
        }
        assert_eq!(bench.rejections(), ["the championship has more than 1 teams", "a team's name has 8 bytes, more than 7"]);
    }

    /// Case 22.
    #[test]
    fn points_published_later_correct_the_standing() {
        let mut bench = race();
        bench.arrive(3_000, team(559.0, Some(584.0)));
        let (header, fact) = bench.facts::<Championship>().pop().unwrap();
        assert_eq!((fact.points_published, fact.points_start), (Some(584.0), Some(559.0)));
        assert!(header.supersedes.is_some());
    }
}
