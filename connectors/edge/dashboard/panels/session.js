/** What this session lacks, the weather, the starting grid and the team radio. */
import { lapTime, UNKNOWN } from "../format.js";
import { carCell, lapOf, nameOf, number, words } from "./names.js";

/** The weather in chips; what is not known is left out. */
export function weatherChips(row) {
  if (!row) return [];
  const chips = [];
  if (row.air_temperature !== null) chips.push({ label: "Air", text: `${row.air_temperature.toFixed(1)} °C` });
  if (row.track_temperature !== null) chips.push({ label: "Track", text: `${row.track_temperature.toFixed(1)} °C` });
  if (row.humidity !== null) chips.push({ label: "Humidity", text: `${row.humidity.toFixed(0)} %` });
  if (row.wind_speed !== null) chips.push({ label: "Wind", text: `${row.wind_speed.toFixed(1)} m/s${row.wind_direction === null ? "" : ` from ${row.wind_direction.toFixed(0)}°`}` });
  if (row.is_raining !== null) chips.push({ label: "Rain", text: row.is_raining ? "yes" : "no", tone: row.is_raining ? "blue" : "" });
  return chips;
}

/** One line for each subject and car: what is missing, its laps joined to ranges; what was missing and came follows. */
export function missing(rows) {
  const lines = new Map();
  for (const row of rows) {
    const key = `${row.subject}/${row.driver_number}/${row.is_missing}`;
    const line = lines.get(key) ?? { ...row, laps: [] };
    if (row.lap_number > 0) line.laps.push(row.lap_number);
    if (row.fact_seq > line.fact_seq) Object.assign(line, { fact_id: row.fact_id, fact_seq: row.fact_seq });
    lines.set(key, line);
  }
  return [...lines].sort(([, a], [, b]) => b.is_missing - a.is_missing || a.driver_number - b.driver_number || a.subject.localeCompare(b.subject));
}

/** Numbers as ranges: `1–3, 7`. */
export function ranges(numbers) {
  const parts = [];
  for (const value of [...numbers].sort((a, b) => a - b)) {
    const last = parts.at(-1);
    if (last && value === last[1] + 1) last[1] = value;
    else parts.push([value, value]);
  }
  return parts.map(([from, to]) => (from === to ? String(from) : `${from}–${to}`)).join(", ");
}

/** What the page calls the collections that can be reconstructed, in the order in which they are named. */
const RECONSTRUCTED = Object.freeze({ POSITION: "positions", INTERVALS: "gaps", PIT: "pit stops", RACE_CONTROL: "race control" });

/**
 * What of the session was not observed but made afterwards of other data: `{title, text}`, or null when all of it was observed.
 * `quality` is the session's `known_at_quality`.
 */
export function provenance(rows, quality) {
  const subjects = new Set([...rows].filter((row) => row.is_reconstructed).map((row) => row.subject));
  const names = Object.keys(RECONSTRUCTED).filter((subject) => subjects.has(subject)).map((subject) => RECONSTRUCTED[subject]);
  const times = "Arrival times were reconstructed as well, so moments of it are approximate.";
  if (names.length === 0) return quality === "RECONSTRUCTED" ? { title: "Reconstructed: arrival times", text: times.replace(" as well", "") } : null;
  const [first, ...others] = names;
  const list = [first[0].toUpperCase() + first.slice(1), ...others].join(", ").replace(/, ([^,]*)$/, " and $1");
  const text = `${list} of this session were not observed but made afterwards of other data; what follows from them, such as overtakes, changes of the lead and the win probability, is only as right as they are.`;
  return { title: `Reconstructed: ${names.join(", ")}`, text: quality === "RECONSTRUCTED" ? `${text} ${times}` : text };
}

export const completeness = {
  id: "completeness",
  title: "Data",
  caption: "What this session's data lacks, and what came later",
  empty: "Nothing is known to be missing.",
  columns: [{ label: "What", className: "c-what" }, { label: "Car", className: "c-car" }, { label: "Laps", className: "c-text" }, { label: "State", className: "c-what" }],
  rows: (store) => missing([...store.rows("completeness").values()].filter((row) => row.is_missing || !row.is_reconstructed)).map(([id, line]) => ({
    id,
    fact: line.fact_id,
    tone: line.is_missing ? "" : "over",
    cells: [
      words(line.subject), line.driver_number === 0 ? "All" : carCell(store, line.driver_number), line.laps.length ? ranges(line.laps) : "",
      line.is_missing ? { text: "Missing", tone: "red" } : { text: "Came later", tone: "green" },
    ],
  })),
  summary: (store) => weatherChips(store.row("weather")),
};

export const startingGrid = {
  id: "grid",
  title: "Starting grid",
  caption: "Starting grid",
  empty: "The starting grid is not in this session's data.",
  columns: [{ label: "Grid", className: "c-lap" }, { label: "Car", className: "c-car" }, { label: "Qualified", className: "c-number" }, { label: "Lost", title: "Grid places lost to penalties", className: "c-number" }, { label: "Lap", className: "c-number" }],
  rows: (store) => [...store.rows("starting_grid").values()].sort((a, b) => a.position - b.position).map((row) => ({
    id: row.driver_number,
    fact: row.fact_id,
    cells: [`P${row.position}`, carCell(store, row.driver_number), row.qualifying_position === null ? UNKNOWN : `P${row.qualifying_position}`, row.places_lost ? { text: String(row.places_lost), tone: "yellow" } : number(row.places_lost), row.lap_ms === null ? UNKNOWN : lapTime(row.lap_ms)],
  })),
};

export const teamRadio = {
  id: "team-radio",
  title: "Radio",
  caption: "Recordings of team radio, newest first",
  empty: "No team radio yet.",
  columns: [{ label: "Lap", className: "c-lap" }, { label: "Car", className: "c-car" }, { label: "Recorded", className: "c-what" }, { label: "Recording", className: "c-text" }],
  rows: (store) => [...store.rows("team_radio").values()].sort((a, b) => b.fact_seq - a.fact_seq).map((row) => ({
    id: `${row.driver_number}/${row.recorded_at}`,
    fact: row.fact_id,
    cells: [lapOf(row.lap_number), carCell(store, row.driver_number), `${row.recorded_at.slice(11, 19)} UTC`, recording(store, row)],
  })),
};

/** A link to the recording; an address that is no web address is only written. */
function recording(store, row) {
  const isWeb = /^https?:\/\//.test(row.recording_url);
  return isWeb ? { text: `Listen to ${nameOf(store, row.driver_number)}`, href: row.recording_url, spoken: "opens another page" } : row.recording_url;
}
