import assert from "node:assert/strict";
import { test } from "node:test";
import { bestTurn, Path } from "../map.js";

const date = (ms) => new Date(Date.UTC(2025, 7, 31, 13) + ms).toISOString();
const at = (ms) => Date.UTC(2025, 7, 31, 13) + ms;
const row = (channel, ...samples) => ({ channel, samples: samples.map(([ms, x, y]) => ({ date: date(ms), x, y })) });

test("between two samples a car is on the straight that joins them", () => {
  const path = new Path();
  path.take(row("LOCATION", [1_000, 100, 0], [2_000, 200, 40]));
  assert.deepEqual(path.at(at(1_500)), [150, 20]);
});

test("before the first and after the last sample a car stands still", () => {
  const path = new Path();
  path.take(row("LOCATION", [1_000, 100, 0], [2_000, 200, 40]));
  assert.deepEqual(path.at(at(0)), [100, 0]);
  assert.deepEqual(path.at(at(9_000)), [200, 40]);
});

test("a sample without a reading, or older than one taken, is passed over", () => {
  const path = new Path();
  path.take(row("LOCATION", [1_000, 100, 0], [1_200, 0, 0], [1_300, null, null], [900, 5, 5]));
  assert.equal(path.dates.length, 1);
});

test("places joined to car data count only when location packets stay away", () => {
  const path = new Path();
  path.take(row("LOCATION", [1_000, 100, 0]));
  path.take(row("CAR_DATA", [1_300, 110, 0]));
  assert.equal(path.dates.length, 1);
  path.take(row("CAR_DATA", [3_500, 300, 0], [3_700, 300, 0]));
  assert.equal(path.dates.length, 2);
});

test("the samples kept of a car are bounded", () => {
  const path = new Path();
  path.take(row("LOCATION", ...Array.from({ length: 500 }, (_, index) => [index * 200, index + 1, 1])));
  assert.equal(path.dates.length, 160);
  assert.deepEqual(path.at(Infinity), [500, 1]);
});

test("a tall circuit is turned to fill a wide panel", () => {
  const tall = [[0, 0], [0, 1_000], [100, 1_000], [100, 0]];
  const turn = bestTurn(tall, 2);
  assert.ok(turn > Math.PI / 4 && turn < (3 * Math.PI) / 4, `turned by ${turn}`);
});
