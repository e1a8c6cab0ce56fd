import assert from "node:assert/strict";
import { test } from "node:test";
import { clock, gap, instant, lapTime, percent, sectorTime, teamColour, UNKNOWN } from "../format.js";

test("lap times are written with minutes and three decimals", () => {
  assert.equal(lapTime(72_271), "1:12.271");
  assert.equal(lapTime(60_005), "1:00.005");
  assert.equal(lapTime(1_834_500), "30:34.500");
  assert.equal(lapTime(null), UNKNOWN);
});

test("a sector of a minute or more is written as a lap time", () => {
  assert.equal(sectorTime(26_174), "26.174");
  assert.equal(sectorTime(61_000), "1:01.000");
});

test("a lapped car shows laps and everyone else time", () => {
  assert.equal(gap(1_234, 0), "+1.234");
  assert.equal(gap(null, 1), "+1 lap");
  assert.equal(gap(90_000, 2), "+2 laps");
  assert.equal(gap(null, null), UNKNOWN);
});

test("session time before the start is zero", () => {
  assert.equal(clock(5_025_999), "1:23:45");
  assert.equal(clock(-10), "0:00:00");
});

test("only the impossible and the certain are written 0 and 100", () => {
  assert.equal(percent(0), "0.0 %");
  assert.equal(percent(0.0001), "<0.1 %");
  assert.equal(percent(0.9999), ">99.9 %");
  assert.equal(percent(1), "100 %");
});

test("microseconds of a time are kept", () => {
  assert.equal(instant("2025-08-31T13:03:21.220250Z") - instant("2025-08-31T13:03:21.220000Z"), 0.25);
  assert.equal(instant("2025-08-31T13:03:21Z"), Date.UTC(2025, 7, 31, 13, 3, 21));
  assert.equal(instant(null), null);
});

test("a team colour that is no colour is grey", () => {
  assert.equal(teamColour("F47600"), "#F47600");
  assert.equal(teamColour("url(x)"), "#8a919c");
  assert.equal(teamColour(null), "#8a919c");
});
