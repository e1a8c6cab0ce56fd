//! `docs/adding-an-operator.md` is the code it shows: every block of it stands in the repository as it is, and the operator that they
//! make, built into the graph with all others, derives from the Dutch race what the page says.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "pages and sources are files")]

mod race;

use std::fs;
use std::ops::ControlFlow::Continue;
use std::path::Path;

use pitwall_engine::session::Output;
use pitwall_schemas::codec::Avro;
use pitwall_schemas::facts::Weather;
use pitwall_schemas::raw::Sample;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The fenced blocks of a page that name a language of code, in order.
fn blocks(page: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<String> = None;
    for line in page.lines() {
        match (&mut open, line) {
            (None, "```json" | "```rust") => open = Some(String::new()),
            (Some(_), "```") => blocks.extend(open.take()),
            (Some(block), line) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, _) => {}
        }
    }
    assert!(open.is_none(), "a block does not end");
    blocks
}

#[test]
fn the_page_shows_the_code_that_is_built() {
    let blocks = blocks(&read("docs/adding-an-operator.md"));
    let [schema, operator, module, join] = blocks.as_slice() else { panic!("{} blocks", blocks.len()) };
    assert_eq!(*schema, read("schemas/avsc/facts/weather.avsc"));
    assert_eq!(*operator, read("operators/src/weather.rs"));
    let lib = read("operators/src/lib.rs");
    for line in [module, join] {
        assert_eq!(lib.lines().filter(|candidate| *candidate == line.trim_end()).count(), 1, "{line}");
    }
}

#[test]
fn the_operator_of_the_page_says_every_change_of_the_races_weather_once() {
    let mut archive = race::dutch();
    let (mut session, mut output) = (race::session(&archive), Output::default());
    let (mut said, mut expected) = (Vec::new(), Vec::new());
    race::for_each(&mut archive, |_, raw| {
        if let Ok(Sample::Weather(reading)) = &raw.event {
            let temperatures = (reading.air_temperature, reading.track_temperature);
            if expected.last() != Some(&temperatures) {
                expected.push(temperatures);
            }
        }
        session.take(&raw, &mut output).unwrap();
        for fact in output.facts.iter().filter(|fact| fact.kind.name == "weather") {
            let (header, mut body) = fact.header().unwrap();
            let weather = Weather::decode(&mut body).unwrap();
            assert_eq!(header.causes.len(), 1);
            assert_eq!(weather.is_raining, None, "this station's rain sensor is not in the samples");
            said.push((weather.air_temperature, weather.track_temperature));
        }
        output.clear();
        Continue(())
    });
    assert!(expected.len() > 20, "{} changes", expected.len());
    assert_eq!(said, expected);
}
