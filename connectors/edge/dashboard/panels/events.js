/** Race events: what is worth telling, in sentences, with the priority that the engine gave it. */
import { clock, instant, lapTime, UNKNOWN } from "../format.js";
import { lapOf, nameOf, newestFirst, seconds, words } from "./names.js";

/** Of events up to this priority a screen reader is told at once. */
export const SPOKEN_PRIORITY_MAX = 2;

const SENTENCES = Object.freeze({
  SESSION_STARTED: () => "Session started",
  SESSION_STOPPED: () => "Session stopped",
  LEAD_CHANGE: ([first]) => `${first} takes the lead`,
  FASTEST_LAP: ([first], row) => `${first}: fastest lap, ${lapTime(row.time_ms)}`,
  RETIREMENT: ([first]) => `${first} is out`,
  SAFETY_CAR: () => "Safety car",
  SAFETY_CAR_ENDING: () => "Safety car in this lap",
  VSC: () => "Virtual safety car",
  VSC_ENDING: () => "Virtual safety car ending",
  TRACK_CLEAR: () => "Track clear",
  CHEQUERED_FLAG: () => "Chequered flag",
  RED_FLAG: () => "Red flag",
  RAIN_BEGAN: () => "Rain",
  RAIN_ENDED: () => "The rain has stopped",
  OVERTAKE: ([first, second]) => `${first} passes ${second}`,
  PIT_STOP: ([first], row) => `${first} pits${row.time_ms === null ? "" : `, ${seconds(row.time_ms)} in the lane`}`,
  FASTEST_PIT_STOP: ([first], row) => `${first}: fastest time in the pit lane, ${seconds(row.time_ms)}`,
  BATTLE: ([first, second], row) => `${first} attacks ${second}${row.time_ms === null ? "" : `, ${seconds(row.time_ms)} behind`}`,
  UNDERCUT: ([first, second]) => `${first} undercuts ${second}`,
  OVERCUT: ([first, second]) => `${first} overcuts ${second}`,
});

/** An event as a sentence: race control's own words where they are the event. */
export function sentence(store, row) {
  const names = row.driver_numbers.map((driver) => nameOf(store, driver));
  const said = SENTENCES[row.kind];
  if (said) return said(names, row);
  const what = row.text ?? words(row.kind);
  return names.length && !row.text ? `${names.join(", ")}: ${what.toLowerCase()}` : what;
}

/** The lap of an event; without one, the time since the start. */
function when(store, row) {
  if (row.lap_number !== null) return lapOf(row.lap_number);
  const [at, startedAt] = [instant(row.event_time ?? row.known_at), instant(store.row("race_clock")?.started_at)];
  return at === null || startedAt === null || at < startedAt ? UNKNOWN : clock(at - startedAt);
}

/** The feed of events, only those up to a priority. */
export function eventsPanel(priorityMax) {
  return {
    id: "events",
    title: "Race events",
    caption: "Race events, newest first; priority 1 is the highest",
    empty: "Nothing has happened yet.",
    columns: [{ label: "Lap", className: "c-lap" }, { label: "Event", className: "c-text" }, { label: "!", title: "Priority, 1 the highest", className: "c-priority" }],
    rows: (store) => newestFirst(store, "race_events", "event_number").filter((row) => row.priority <= priorityMax()).map((row) => ({
      id: row.event_number,
      fact: row.fact_id,
      tone: `event-${row.kind} priority-${row.priority}`,
      cells: [when(store, row), sentence(store, row), { text: String(row.priority), tone: `priority-${row.priority}` }],
    })),
  };
}
