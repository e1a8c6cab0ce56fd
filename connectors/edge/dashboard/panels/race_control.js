/** Race control: every message in its own words, and the state they leave behind. */
import { lapOf, newestFirst, number, words } from "./names.js";

const FLAG_TONES = Object.freeze({
  GREEN: "green", CLEAR: "green", YELLOW: "yellow", DOUBLE_YELLOW: "yellow", RED: "red", BLUE: "blue",
  BLACK_AND_WHITE: "black", BLACK_AND_ORANGE: "black", BLACK: "black", CHEQUERED: "chequered",
});
const KIND_TONES = Object.freeze({
  SAFETY_CAR_DEPLOYED: "yellow", SAFETY_CAR_IN_THIS_LAP: "yellow", VSC_DEPLOYED: "yellow", VSC_ENDING: "yellow",
  PENALTY: "red", DISQUALIFIED: "red", LAP_DELETED: "red", LAP_REINSTATED: "green", UNKNOWN: "unknown",
});

/** The state that the newest message leaves: flags by sector, DRS, what is open. */
export function stateAfter(row) {
  if (!row) return [];
  const chips = [];
  const sectors = (list) => (list.length === 1 ? `sector ${list[0]}` : `sectors ${list.join(", ")}`);
  if (row.double_yellow_sectors.length) chips.push({ label: "Double yellow", text: sectors(row.double_yellow_sectors), tone: "yellow" });
  if (row.yellow_sectors.length) chips.push({ label: "Yellow", text: sectors(row.yellow_sectors), tone: "yellow" });
  if (!row.double_yellow_sectors.length && !row.yellow_sectors.length) chips.push({ label: "Sector flags", text: "none", tone: "green" });
  if (row.is_drs_enabled !== null) chips.push({ label: "DRS", text: row.is_drs_enabled ? "enabled" : "disabled", tone: row.is_drs_enabled ? "green" : "" });
  chips.push({ label: "Open investigations", text: String(row.open_investigations), tone: row.open_investigations ? "yellow" : "" });
  chips.push({ label: "Penalties to serve", text: String(row.penalties_to_serve), tone: row.penalties_to_serve ? "red" : "" });
  if (row.unknown_messages) chips.push({ label: "Not understood", text: number(row.unknown_messages), tone: "" });
  return chips;
}

export const raceControl = {
  id: "race-control",
  title: "Race control",
  caption: "Messages of race control, newest first",
  empty: "No message from race control yet.",
  columns: [{ label: "Lap", className: "c-lap" }, { label: "What", className: "c-what" }, { label: "Message", className: "c-text" }],
  rows: (store) => newestFirst(store, "race_control", "message_number").map((row) => ({
    id: row.message_number,
    fact: row.fact_id,
    cells: [
      row.qualifying_phase ? `Q${row.qualifying_phase}` : lapOf(row.lap_number),
      { text: row.flag ? words(row.flag) : words(row.kind), tone: FLAG_TONES[row.flag] ?? KIND_TONES[row.kind] ?? "" },
      row.text,
    ],
  })),
  summary: (store) => stateAfter(newestFirst(store, "race_control", "message_number")[0]),
};
