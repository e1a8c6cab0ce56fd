/** Every swap of two cars with its cause, and by whose rules it counts. */
import { carCell, lapOf, newestFirst, number, words } from "./names.js";

const CAUSE_TONES = Object.freeze({ ON_TRACK: "green", LAP_1: "green", SAFETY_CAR_RESTART: "yellow", PENALTY: "red", RETIREMENT: "red" });

export const overtakes = {
  id: "overtakes",
  title: "Overtakes",
  caption: "Swaps of two cars, newest first",
  empty: "No car has passed another yet.",
  columns: [
    { label: "Lap", className: "c-lap" }, { label: "Passes", className: "c-car" }, { label: "Passed", className: "c-car" }, { label: "For", className: "c-number" },
    { label: "Sector", className: "c-number" }, { label: "Cause", className: "c-what" },
    { label: "F1", title: "Counts by the rules of Formula 1's award of 2021", className: "c-number" },
    { label: "Pirelli", title: "Counts in Pirelli's statistics", className: "c-number" }, { label: "Handed back", className: "c-number" },
  ],
  rows: (store) => newestFirst(store, "overtakes", "overtake_number").map((row) => ({
    id: row.overtake_number,
    fact: row.fact_id,
    cells: [
      lapOf(row.lap_number), carCell(store, row.overtaking_driver_number), carCell(store, row.overtaken_driver_number), `P${row.position}`,
      number(row.sector), { text: words(row.cause), tone: CAUSE_TONES[row.cause] ?? "" },
      counted(row.counts_f1_2021), counted(row.counts_pirelli), row.handed_back_by === null ? "" : { text: "yes", tone: "yellow" },
    ],
  })),
  summary: (store) => {
    const rows = [...store.rows("overtakes").values()];
    if (rows.length === 0) return [];
    const count = (field) => String(rows.filter((row) => row[field]).length);
    return [
      { label: "Swaps", text: String(rows.length) },
      { label: "On track", text: String(rows.filter((row) => row.cause === "ON_TRACK").length), tone: "green" },
      { label: "F1 award of 2021", text: count("counts_f1_2021") },
      { label: "Pirelli", text: count("counts_pirelli") },
    ];
  },
};

function counted(does) {
  return does ? { text: "✓", spoken: "counts", tone: "green" } : { text: "", spoken: "does not count" };
}
