import assert from "node:assert/strict";
import { test } from "node:test";
import { placesByLap, slowSpells, Store } from "../store.js";

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

test("two stints of one driver are two rows", () => {
  const store = new Store();
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
