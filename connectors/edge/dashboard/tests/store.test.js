import assert from "node:assert/strict";
import { test } from "node:test";
import { gapsByLap, placesByLap, placesThatGoOn, qualifyingBests, slowSpells, Store } from "../store.js";

const message = (seq, rows) => ({ epoch: 0, seq, known_at: `2025-08-31T13:00:${String(seq).padStart(2, "0")}Z`, rows });

test("a frame replaces rows of its keys only, and a snapshot everything", () => {
  const store = new Store();
  store.take("timing", message(1, [{ driver_number: 1, position: 1 }, { driver_number: 4, position: 2 }]), true);
  store.take("timing", message(2, [{ driver_number: 4, position: 1 }]), false);
  assert.deepEqual([...store.rows("timing").values()].map((row) => row.position), [1, 1]);
  store.take("timing", message(3, [{ driver_number: 4, position: 1 }]), true);
  assert.equal(store.rows("timing").size, 1);
  assert.equal(store.channel("timing").position.seq, 3);
});

test("a row that is taken back goes, whichever channel it is of", () => {
  const store = new Store([{ channel: "race_events", key: ["event_number"] }]);
  store.take("race_events", message(1, [{ event_number: 1 }, { event_number: 2 }]), true);
  store.take("race_events", message(2, [{ event_number: 1, withdrawn: true }]), false);
  assert.deepEqual([...store.rows("race_events").keys()], [2]);
});

test("a frame that follows no other holds the whole channel", () => {
  const store = new Store();
  store.take("timing", message(1, [{ driver_number: 1 }, { driver_number: 4 }]), true);
  store.take("timing", { ...message(9, [{ driver_number: 4 }]), prev: null }, false);
  assert.deepEqual([...store.rows("timing").keys()], [4]);
});

test("two stints of one driver are two rows", () => {
  const store = new Store([{ channel: "stints", key: ["driver_number", "stint_number"] }]);
  store.take("stints", message(1, [{ driver_number: 1, stint_number: 1 }, { driver_number: 1, stint_number: 2 }]), true);
  assert.equal(store.rows("stints").size, 2);
});

test("a history fetched after live facts came is put before them, and no fact is there twice", () => {
  const store = new Store();
  store.extend("positions", [{ fact_seq: 9 }, { fact_seq: 12 }]);
  store.extend("positions", [{ fact_seq: 3 }, { fact_seq: 9 }, { fact_seq: 7 }]);
  assert.deepEqual(store.history.positions.map((row) => row.fact_seq), [3, 7, 9, 12]);
});

test("the place at the end of a lap is the last one said by then", () => {
  const position = (second, place) => ({ driver_number: 1, position: place, event_time: `2025-08-31T13:00:${second}Z` });
  const laps = [
    { driver_number: 1, lap_number: 1, started_at: "2025-08-31T13:00:00Z", lap_ms: 20_000 },
    { driver_number: 1, lap_number: 2, started_at: "2025-08-31T13:00:20Z", lap_ms: 20_000 },
    { driver_number: 1, lap_number: 3, started_at: "2025-08-31T13:00:40Z", lap_ms: null },
  ];
  const places = placesByLap(laps, [position("01", 5), position("21", 4), position("22", 3)]);
  assert.deepEqual(places.get(1), [5, 4, 3]);
});

test("a virtual safety car that is ending is not over until the track is clear", () => {
  const status = (second, name) => ({ status: name, known_at: `2025-08-31T13:00:${second}Z`, lap_number: Number(second) });
  const spells = slowSpells([status("01", "CLEAR"), status("10", "VSC"), status("20", "VSC_ENDING"), status("30", "CLEAR"), status("40", "RED")]);
  assert.deepEqual(spells.map(({ status: name, fromLap, toLap }) => [name, fromLap, toLap]), [["VSC", 10, 30], ["RED", 40, null]]);
});

test("a channel without a key has one row, and any other the key that the session names", () => {
  const store = new Store([{ channel: "weather", key: [] }, { channel: "classification", key: ["basis", "driver_number"] }]);
  store.take("weather", message(1, [{ air_temperature: 19 }]), true);
  store.take("weather", message(2, [{ air_temperature: 20 }]), false);
  assert.equal(store.row("weather").air_temperature, 20);
  store.take("classification", message(1, [{ basis: "PROVISIONAL", driver_number: 4 }, { basis: "OFFICIAL", driver_number: 4 }]), true);
  assert.equal(store.rows("classification").size, 2);
});

test("a history looked back at holds nothing that was known later", () => {
  const store = new Store();
  store.extend("positions", [{ fact_seq: 1, known_at: "2025-08-31T13:00:01Z" }, { fact_seq: 2, known_at: "2025-08-31T13:00:02.000001Z" }]);
  const past = store.historyUntil(Date.parse("2025-08-31T13:00:02Z"));
  assert.deepEqual(past.positions.map((row) => row.fact_seq), [1]);
  assert.equal(store.history.positions.length, 2);
});

test("the gap at the end of a lap is to whoever ended that lap first, from session time", () => {
  const lap = (driver, number, second, ms) => ({ driver_number: driver, lap_number: number, started_at: `2025-08-31T13:00:${second}Z`, lap_ms: ms });
  const gaps = gapsByLap([lap(4, 1, "00", 20_000), lap(81, 1, "00", 21_500), lap(4, 2, "20", 25_000), lap(81, 2, "21.5", 20_000), lap(44, 2, "30", null)]);
  assert.deepEqual(gaps.get(4).slice(1), [0, 3_500]);
  assert.deepEqual(gaps.get(81).slice(1), [1_500, 0]);
  assert.equal(gaps.has(44), false);
});

test("in qualifying a car's gap is to the best of the last segment it has a time in", () => {
  const row = (driver, q1, q2) => ({ basis: "PROVISIONAL", driver_number: driver, segment_1_ms: q1, segment_2_ms: q2, segment_3_ms: null });
  const bests = qualifyingBests([row(4, 77_000, 76_000), row(81, 76_900, 76_300), row(5, 78_100, null), row(6, null, null)]);
  assert.deepEqual([...bests], [[4, { bestMs: 76_000, gapMs: 0 }], [81, { bestMs: 76_300, gapMs: 300 }], [5, { bestMs: 78_100, gapMs: 1_200 }]]);
});

test("of 20 cars 15 and then 10 go on, of 22 cars 16 and then 10", () => {
  assert.deepEqual([1, 2, 3].map((phase) => placesThatGoOn(phase, 20)), [15, 10, null]);
  assert.deepEqual([1, 2, 3].map((phase) => placesThatGoOn(phase, 22)), [16, 10, null]);
});
