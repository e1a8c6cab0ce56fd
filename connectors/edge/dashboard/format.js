/** How the dashboard writes values. Every function answers an en dash for what is not known. */

export const UNKNOWN = "–";

/** Letter and name of each compound; the letter is what the sidewall shows. */
export const COMPOUNDS = Object.freeze({
  SOFT: ["S", "Soft"],
  MEDIUM: ["M", "Medium"],
  HARD: ["H", "Hard"],
  INTERMEDIATE: ["I", "Intermediate"],
  WET: ["W", "Wet"],
  UNKNOWN: ["?", "Unknown compound"],
});

/** Letter and meaning of each mark. */
export const MARKS = Object.freeze({
  NONE: ["", ""],
  YELLOW: ["Y", "slower than the personal best"],
  GREEN: ["G", "personal best"],
  PURPLE: ["P", "fastest of all"],
});

/** Words for each track status. */
export const TRACK_STATUS = Object.freeze({
  NONE: "No track status yet",
  CLEAR: "Track clear",
  YELLOW: "Yellow flag",
  SAFETY_CAR: "Safety car",
  RED: "Red flag",
  VSC: "Virtual safety car",
  VSC_ENDING: "VSC ending",
  FINISHED: "Chequered flag",
});

/** Words for each state of a car; running needs none. */
export const CAR_STATES = Object.freeze({
  RUNNING: "",
  IN_PIT: "In pit",
  PIT_OUT: "Out lap",
  STOPPED: "Stopped",
  RETIRED: "Retired",
  FINISHED: "Finished",
  DID_NOT_START: "Did not start",
});

/** A lap time, `1:12.345`; milliseconds in. */
export function lapTime(ms) {
  if (ms === null || ms === undefined) return UNKNOWN;
  const minutes = Math.floor(ms / 60_000);
  return `${minutes}:${((ms % 60_000) / 1_000).toFixed(3).padStart(6, "0")}`;
}

/** A sector time, `26.174`, or with minutes when it is that long. */
export function sectorTime(ms) {
  if (ms === null || ms === undefined) return UNKNOWN;
  return ms < 60_000 ? (ms / 1_000).toFixed(3) : lapTime(ms);
}

/** A gap or interval: whole laps when a lap or more behind, else `+1.234`. */
export function gap(ms, laps) {
  if (laps) return `+${laps} ${laps === 1 ? "lap" : "laps"}`;
  if (ms === null || ms === undefined) return UNKNOWN;
  return ms < 60_000 ? `+${(ms / 1_000).toFixed(3)}` : `+${lapTime(ms)}`;
}

/** A length of session time, `1:23:45`; milliseconds in. */
export function clock(ms) {
  if (ms === null || ms === undefined || Number.isNaN(ms)) return "–:––:––";
  const seconds = Math.max(0, Math.floor(ms / 1_000));
  const two = (number) => String(number).padStart(2, "0");
  return `${Math.floor(seconds / 3_600)}:${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`;
}

/** A probability in percent; only what is impossible or certain is written as such. */
export function percent(probability) {
  if (probability === null || probability === undefined) return UNKNOWN;
  const value = probability * 100;
  if (value > 0 && value < 0.1) return "<0.1 %";
  if (value > 99.9 && value < 100) return ">99.9 %";
  return `${value < 10 ? value.toFixed(1) : value.toFixed(0)} %`;
}

/** Milliseconds since 1970 of an RFC 3339 time, its microseconds kept as a fraction; null stays null. */
export function instant(text) {
  if (!text) return null;
  const whole = Date.parse(text);
  const micros = /\.\d{3}(\d{1,3})/.exec(text);
  return micros ? whole + Number(micros[1].padEnd(3, "0")) / 1_000 : whole;
}

/** A team's colour as the feed writes it, `F47600`, for CSS; grey when it is missing or no colour. */
export function teamColour(hex) {
  return /^[0-9a-f]{6}$/i.test(hex ?? "") ? `#${hex}` : "#8a919c";
}
