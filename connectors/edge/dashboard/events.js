/** What happened, told from one state of the tower to the next: lead changes, stops, fastest laps, retirements, track status. */
import { lapTime, TRACK_STATUS } from "./format.js";

/** Events kept and shown. */
export const EVENTS_MAX = 60;

/** A row's name in a sentence. */
const nameOf = (row) => row.acronym ?? `Car ${row.driver_number}`;

/** Finds events in successive states; the first state is where it begins, not news. */
export class EventFinder {
  #rows = new Map();
  #leader = null;
  #fastestMs = null;
  #status = null;

  /** Events between the state before and these rows: `{kind, text, isSpoken}`. */
  timing(rows) {
    const events = [];
    const isFirst = this.#rows.size === 0;
    const leader = rows.find((row) => row.position === 1);
    if (leader && this.#leader !== null && leader.driver_number !== this.#leader) events.push({ kind: "lead", text: `${nameOf(leader)} takes the lead`, isSpoken: true });
    if (leader) this.#leader = leader.driver_number;
    const fastest = rows.reduce((best, row) => (row.best_lap_ms !== null && (best === null || row.best_lap_ms < best.best_lap_ms) ? row : best), null);
    if (fastest) {
      if (!isFirst && this.#fastestMs !== null && fastest.best_lap_ms < this.#fastestMs) {
        events.push({ kind: "fastest", text: `${nameOf(fastest)} sets the fastest lap, ${lapTime(fastest.best_lap_ms)}`, isSpoken: false });
      }
      this.#fastestMs = fastest.best_lap_ms;
    }
    for (const row of rows) {
      const before = this.#rows.get(row.driver_number);
      if (before && row.stops > before.stops) events.push({ kind: "stop", text: `${nameOf(row)} pits from P${before.position ?? "?"}`, isSpoken: false });
      if (before && row.state !== before.state) {
        if (row.state === "RETIRED") events.push({ kind: "retired", text: `${nameOf(row)} is out of the race`, isSpoken: true });
        if (row.state === "FINISHED" && row.position === 1) events.push({ kind: "finish", text: `${nameOf(row)} wins`, isSpoken: true });
      }
      this.#rows.set(row.driver_number, row);
    }
    return events;
  }

  /** Events of a row of `track_status`. */
  status(row) {
    const said = `${row.status}/${row.is_ending}/${row.session}`;
    const isFirst = this.#status === null;
    if (said === this.#status) return [];
    this.#status = said;
    if (isFirst) return [];
    const name = row.session === "FINISHED" ? TRACK_STATUS.FINISHED : row.is_ending ? "Safety car in this lap" : TRACK_STATUS[row.status];
    return [{ kind: `status-${row.session === "FINISHED" ? "FINISHED" : row.status}`, text: name, isSpoken: true }];
  }
}
