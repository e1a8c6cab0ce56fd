import assert from "node:assert/strict";
import { test } from "node:test";
import { apart } from "../charts.js";
import { inOrder as battlesInOrder } from "../panels/battles.js";
import { estimatedLaps, lineChips, lineCrossings, pitPasses, positionChecks } from "../panels/by_location.js";
import { lines } from "../panels/classification.js";
import { eventsPanel, sentence } from "../panels/events.js";
import { inWords, newestLaps } from "../panels/mini_sectors.js";
import { overtakes } from "../panels/overtakes.js";
import { pitStops, places } from "../panels/pit_stops.js";
import { raceControl, stateAfter } from "../panels/race_control.js";
import { completeness, missing, provenance, ranges, teamRadio, weatherChips } from "../panels/session.js";
import { Store } from "../store.js";

const KEYS = [
  { channel: "race_events", key: ["event_number"] }, { channel: "race_control", key: ["message_number"] }, { channel: "overtakes", key: ["overtake_number"] },
  { channel: "pit_stops", key: ["driver_number", "lap_number", "pass"] }, { channel: "pit_passes", key: ["driver_number", "lap_number"] },
  { channel: "completeness", key: ["subject", "driver_number", "lap_number"] }, { channel: "team_radio", key: ["driver_number", "recorded_at"] },
  { channel: "estimated_laps", key: ["driver_number", "lap_number"] }, { channel: "estimated_order", key: ["driver_number", "lap_number"] },
  { channel: "position_check", key: ["driver_number", "lap_number"] }, { channel: "laps", key: ["driver_number", "lap_number"] },
  { channel: "timing_line", key: [] }, { channel: "track_status", key: [] }, { channel: "weather", key: [] }, { channel: "drivers", key: ["driver_number"] },
];

function storeOf(channels) {
  const store = new Store(KEYS);
  store.take("drivers", { epoch: 0, seq: 1, known_at: "2025-08-31T13:00:00Z", rows: [{ driver_number: 4, acronym: "NOR", team_colour: "F47600" }, { driver_number: 81, acronym: "PIA", team_colour: "F47600" }] }, true);
  for (const [name, rows] of Object.entries(channels)) store.take(name, { epoch: 0, seq: 2, known_at: "2025-08-31T13:00:01Z", rows }, true);
  return store;
}

const textOf = (cell) => (typeof cell === "string" ? cell : cell.text);
const event = (number, kind, more = {}) => ({ event_number: number, fact_id: `1-0-${number}`, kind, priority: 3, driver_numbers: [], lap_number: 5, time_ms: null, text: null, ...more });

test("events are listed newest first, up to the priority asked for, each with its fact", () => {
  const store = storeOf({ race_events: [event(1, "SAFETY_CAR", { priority: 2 }), event(2, "FASTEST_LAP", { driver_numbers: [81], time_ms: 72_271 }), event(3, "LAP_DELETED", { priority: 5 })] });
  const all = eventsPanel(() => 5).rows(store);
  assert.deepEqual(all.map((row) => row.fact), ["1-0-3", "1-0-2", "1-0-1"]);
  assert.equal(textOf(all[1].cells[1]), "PIA: fastest lap, 1:12.271");
  assert.deepEqual(eventsPanel(() => 2).rows(store).map((row) => row.id), [1]);
});

test("an event of a kind this page does not know is told by its words or its name", () => {
  const store = storeOf({});
  assert.equal(sentence(store, event(1, "PENALTY", { driver_numbers: [4], text: "5 SECOND TIME PENALTY FOR CAR 4 (NOR)" })), "5 SECOND TIME PENALTY FOR CAR 4 (NOR)");
  assert.equal(sentence(store, event(1, "TRACK_RECORD", { driver_numbers: [4, 99] })), "NOR, Car 99: track record");
});

test("the newest message of race control says which sectors are under yellow and what is open", () => {
  const row = { yellow_sectors: [3], double_yellow_sectors: [7, 8], is_drs_enabled: false, open_investigations: 2, penalties_to_serve: 0, unknown_messages: 1 };
  assert.deepEqual(stateAfter(row).map(({ label, text }) => `${label} ${text}`), ["Double yellow sectors 7, 8", "Yellow sector 3", "DRS disabled", "Open investigations 2", "Penalties to serve 0", "Not understood 1"]);
  assert.deepEqual(stateAfter(undefined), []);
});

test("a message that nobody understands is shown in its own words", () => {
  const [row] = raceControl.rows(storeOf({ race_control: [{ message_number: 1, fact_id: "1-0-1", kind: "UNKNOWN", flag: null, lap_number: null, qualifying_phase: null, text: "MARSHALS ARE BACK" }] }));
  assert.equal(row.cells[2], "MARSHALS ARE BACK");
});

test("battles that go on come first by place, ended ones after them, newest first", () => {
  const battle = (number, phase, position) => ({ battle_number: number, phase, position });
  assert.deepEqual(battlesInOrder([battle(1, "ENDED", 1), battle(2, "GOES_ON", 9), battle(3, "ENDED", 5), battle(4, "BEGAN", 3)]).map((row) => row.battle_number), [4, 2, 3, 1]);
});

test("a stop says places lost, and a time standing that is estimated says so", () => {
  const stop = { driver_number: 4, lap_number: 22, pass: 1, kind: "STOP", stop_number: 1, exited_at: "2025-08-31T13:33:09Z", lane_ms: 18_740, stationary_ms: null, compound: "MEDIUM", neutralisation: "SAFETY_CAR", position_before: 2, position_after: 5, positions_lost: 3, predicted_position: null, loss_ms: null };
  assert.deepEqual(places(stop), { text: "P2 → P5", tone: "red", spoken: "3 lost" });
  assert.equal(places({ ...stop, position_before: null, position_after: null }), "–");
  const [row] = pitStops.rows(storeOf({ pit_stops: [stop], pit_passes: [{ driver_number: 4, lap_number: 22, stationary_ms: 2_400, stationary_error_ms: 500 }] }));
  assert.deepEqual(row.cells.map(textOf).slice(0, 6), ["L22", "NOR", "Stop 1 · SC", "", "18.7 s", "~2.4 s"]);
  const [reported] = pitStops.rows(storeOf({ pit_stops: [{ ...stop, stationary_ms: 2_300 }] }));
  assert.equal(textOf(reported.cells[5]), "2.3 s");
});

test("overtakes are counted by each rule, and one handed back says so", () => {
  const swap = (number, more) => ({ overtake_number: number, overtaking_driver_number: 81, overtaken_driver_number: 4, position: 1, cause: "ON_TRACK", counts_f1_2021: true, counts_pirelli: false, lap_number: 9, sector: 1, handed_back_by: null, ...more });
  const store = storeOf({ overtakes: [swap(1), swap(2, { cause: "PIT", counts_f1_2021: false, handed_back_by: 3 })] });
  assert.deepEqual(overtakes.summary(store).map(({ text }) => text), ["2", "1", "1", "0"]);
  assert.deepEqual(overtakes.rows(store).map((row) => textOf(row.cells.at(-1))), ["yes", ""]);
});

test("a published place that differs stands beside the provisional one", () => {
  const row = (basis, driver, position) => ({ basis, driver_number: driver, position, laps_completed: 72 });
  const pairs = lines([row("PROVISIONAL", 12, 5), row("PROVISIONAL", 6, 3), row("OFFICIAL", 12, 16), row("PROVISIONAL", 44, null)]);
  assert.deepEqual(pairs.map(({ driver, provisional, official }) => [driver, provisional?.position, official?.position]), [[6, 3, undefined], [12, 5, 16], [44, null, undefined]]);
});

test("missing laps are joined to ranges, and what came later stands behind what is missing", () => {
  assert.equal(ranges([7, 1, 2, 3, 9, 10]), "1–3, 7, 9–10");
  const note = (lap, isMissing, seq) => ({ subject: "LAP", driver_number: 4, lap_number: lap, is_missing: isMissing, fact_seq: seq, fact_id: `1-0-${seq}` });
  const store = storeOf({ completeness: [note(1, false, 1), note(2, true, 2), note(3, true, 3)] });
  assert.deepEqual(missing(store.rows("completeness").values()).map(([, line]) => [line.is_missing, line.laps]), [[true, [2, 3]], [false, [1]]]);
  assert.deepEqual(completeness.rows(store).map((row) => textOf(row.cells[3])), ["Missing", "Came later"]);
});

test("weather that is not known is left out", () => {
  const row = { air_temperature: 19.4, track_temperature: null, humidity: null, wind_speed: 1.4, wind_direction: null, is_raining: false };
  assert.deepEqual(weatherChips(row).map(({ label, text }) => `${label} ${text}`), ["Air 19.4 °C", "Wind 1.4 m/s", "Rain no"]);
});

test("only a web address of team radio becomes a link", () => {
  const radio = (url) => ({ driver_number: 4, recorded_at: "2025-10-25T20:59:10.493000Z", recording_url: url, lap_number: null, fact_seq: 1 });
  assert.equal(teamRadio.rows(storeOf({ team_radio: [radio("https://example.com/a.mp3")] }))[0].cells[3].href, "https://example.com/a.mp3");
  assert.equal(teamRadio.rows(storeOf({ team_radio: [radio("javascript:alert(1)")] }))[0].cells[3], "javascript:alert(1)");
});

test("mini-sectors are those of the newest lap that has any, told in words too", () => {
  const lap = (number, codes) => ({ driver_number: 4, lap_number: number, segments_1: codes, segments_2: [], segments_3: [] });
  assert.equal(newestLaps([lap(2, [2049, 2051]), lap(3, [0, 0]), lap(1, [2048])]).get(4).lap_number, 2);
  assert.equal(inWords([2049, 2051, 2049, 0, 2064, 9]), "2 green, 1 purple, 1 pit lane, 1 unknown");
});

test("names of lines that end at one place are pushed apart and stay within the plot", () => {
  const ends = apart([{ x: 100, y: 50 }, { x: 110, y: 51 }, { x: 105, y: 199 }, { x: 108, y: 200 }, { x: 10, y: 50 }], 10, 200);
  const near = ends.filter((end) => end.x > 50).map((end) => end.at).sort((a, b) => a - b);
  for (let index = 1; index < near.length; index += 1) assert.ok(near[index] - near[index - 1] >= 11, String(near));
  assert.ok(near.at(-1) <= 200);
  assert.equal(ends.at(-1).at, 50);
});

test("a lap by location stands beside the feed's own, with its bound, and says nothing that neither knows", () => {
  const lap = (number, ms, seq) => ({ driver_number: 4, lap_number: number, started_at: `2025-08-31T13:${number}:00Z`, lap_ms: ms, error_ms: 60, fact_seq: seq, fact_id: `1-0-${seq}` });
  const store = storeOf({
    estimated_laps: [lap(11, 75_040, 1), lap(12, 74_990, 2)], estimated_order: [{ driver_number: 4, lap_number: 12, position: 2, gap_ms: 1_250 }],
    laps: [{ driver_number: 4, lap_number: 12, lap_ms: 75_012 }],
  });
  assert.deepEqual(estimatedLaps.rows(store).map((row) => row.cells.map(textOf)), [
    ["L12", "NOR", "1:14.990", "±60 ms", "−0.022 s", "P2", "+1.3 s"], ["L11", "NOR", "1:15.040", "±60 ms", "–", "–", "–"],
  ]);
});

test("a place on which feed and locations disagree names both, and the newest says how often so far", () => {
  const check = (seq, disagreements) => ({ driver_number: 81, lap_number: seq, position: 3, estimated_position: 4, disagreements, comparisons: 40, fact_seq: seq, fact_id: `1-0-${seq}` });
  const store = storeOf({ position_check: [check(1, 1), check(2, 2)], timing_line: [{ source: "LAPS", error_m: 3 }] });
  assert.deepEqual(positionChecks.rows(store)[0].cells.map(textOf), ["L2", "PIA", "P3", "P4"]);
  assert.deepEqual(positionChecks.summary(store).map(({ text }) => text), ["learned from laps, ±3 m", "2 of 40 places"]);
  assert.deepEqual(lineChips(null), []);
});

test("passes and crossings by location are marked as estimates", () => {
  const pass = { driver_number: 4, lap_number: null, entered_at: "2025-08-31T13:33:09Z", lane_ms: 18_300, stationary_ms: 2_400, stationary_error_ms: 500, fact_seq: 1, fact_id: "1-0-1" };
  assert.deepEqual(pitPasses.rows(storeOf({ pit_passes: [pass] }))[0].cells.map(textOf), ["–", "NOR", "~18.3 s", "~2.4 s", "±500 ms"]);
  const crossing = { driver_number: 81, crossed_at: "2025-08-31T13:33:09.123456Z", error_ms: 40, speed: 297, is_in_pit_lane: false, fact_seq: 1, fact_id: "1-0-1" };
  assert.deepEqual(lineCrossings.rows(storeOf({ line_crossings: [crossing] }))[0].cells.map(textOf), ["PIA", "13:33:09.123 UTC", "±40 ms", "297 km/h", "Track"]);
});

test("what was reconstructed is named once, with what follows from it", () => {
  const rows = ["INTERVALS", "RACE_CONTROL", "POSITION"].map((subject) => ({ subject, is_missing: false, is_reconstructed: true, revision: 0 }));
  const said = provenance(rows, "RECONSTRUCTED");
  assert.equal(said.title, "Reconstructed: positions, gaps, race control");
  assert.match(said.text, /^Positions, gaps and race control of this session were not observed/);
  assert.match(said.text, /Arrival times/);
  assert.doesNotMatch(provenance(rows, "RECEIVED").text, /Arrival times/);
  assert.equal(provenance([], "RECONSTRUCTED").title, "Reconstructed: arrival times");
  assert.equal(provenance([{ subject: "LAP", is_missing: true, is_reconstructed: false }], "RECEIVED"), null);
});

test("a collection that was reconstructed is not one that came later", () => {
  const store = storeOf({ completeness: [{ subject: "POSITION", driver_number: 0, lap_number: 0, is_missing: false, is_reconstructed: true, revision: 0 }] });
  assert.deepEqual(completeness.rows(store), []);
});
