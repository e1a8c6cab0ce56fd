/** Battles that go on and what became of the last ones, then who tried to pass whom by stopping earlier or later. */
import { UNKNOWN } from "../format.js";
import { carCell, lapOf, nameOf, newestFirst, number, seconds, words } from "./names.js";

const END_TONES = Object.freeze({ OVERTAKE: "green", FELL_BACK: "", NEUTRALISATION: "yellow" });
const OUTCOME_TONES = Object.freeze({ SUCCEEDED: "green", FAILED: "red", OPEN: "yellow", VOID: "" });

/** Battles that go on by place, then the ended ones, newest first. */
export function inOrder(rows) {
  const isOver = (row) => row.phase === "ENDED";
  return [...rows].sort((a, b) => isOver(a) - isOver(b) || (isOver(a) ? b.battle_number - a.battle_number : a.position - b.position));
}

/** How the interval moves, for the reader: `closing 0.12 s a lap`. */
export function closing(row) {
  if (row.closing_ms_per_lap === null) return UNKNOWN;
  return `${seconds(row.closing_ms_per_lap, true, 2)}/lap`;
}

export const battles = {
  id: "battles",
  title: "Battles",
  caption: "Battles: those that go on by place, then those that ended, newest first",
  empty: "No battle yet: two cars within a second over several timing loops make one.",
  columns: [
    { label: "For", className: "c-lap" }, { label: "Attacks", className: "c-car" }, { label: "Defends", className: "c-car" },
    { label: "Interval", className: "c-number" }, { label: "Closing", title: "How fast the car behind closes", className: "c-number" },
    { label: "Closest", className: "c-number" }, { label: "Since", className: "c-number" }, { label: "Now", className: "c-what" },
  ],
  rows: (store) => inOrder(store.rows("battles").values()).map((row) => ({
    id: row.battle_number,
    fact: row.fact_id,
    tone: row.phase === "ENDED" ? "over" : "",
    cells: [
      `P${row.position}`, carCell(store, row.driver_number), carCell(store, row.driver_number_ahead),
      { text: seconds(row.interval_ms, false, 2), tone: row.phase === "ENDED" ? "" : "close" },
      { text: closing(row), tone: row.phase !== "ENDED" && row.closing_ms_per_lap > 0 ? "green" : "" },
      seconds(row.closest_ms, false, 2), lapOf(row.began_lap),
      row.phase === "ENDED" ? { text: words(row.end), tone: END_TONES[row.end] ?? "" } : { text: "Goes on", tone: "close" },
    ],
  })),
  summary: (store) => {
    const open = inOrder(store.rows("battles").values()).filter((row) => row.phase !== "ENDED");
    const lead = open[0];
    if (!lead) return [];
    return [
      { label: "Going on", text: number(open.length), tone: "close" },
      { label: `For P${lead.position}`, text: `${nameOf(store, lead.driver_number)} behind ${nameOf(store, lead.driver_number_ahead)}`, tone: "" },
    ];
  },
};

export const undercuts = {
  id: "undercuts",
  title: "Undercuts",
  caption: "Undercuts and overcuts, newest first",
  empty: "No undercut or overcut was tried yet.",
  columns: [
    { label: "Lap", className: "c-lap" }, { label: "Kind", className: "c-what" }, { label: "Tries", className: "c-car" }, { label: "Against", className: "c-car" },
    { label: "Before", title: "Interval when the first of them stopped", className: "c-number" },
    { label: "Answer", title: "Lap of the other car's stop", className: "c-number" },
    { label: "After", title: "How far the car that tried was ahead afterwards", className: "c-number" }, { label: "Outcome", className: "c-what" },
  ],
  rows: (store) => newestFirst(store, "undercuts", "attempt_number").map((row) => ({
    id: row.attempt_number,
    fact: row.fact_id,
    cells: [
      lapOf(row.lap_number), words(row.kind), carCell(store, row.driver_number), carCell(store, row.driver_number_ahead),
      seconds(row.interval_before_ms), lapOf(row.answer_lap_number), seconds(row.interval_after_ms, true),
      { text: words(row.outcome), tone: OUTCOME_TONES[row.outcome] ?? "" },
    ],
  })),
};
