/** Passes through the pit lane: time in the lane and standing, tyres, places lost, and what was predicted. */
import { COMPOUNDS, UNKNOWN } from "../format.js";
import { carCell, lapOf, number, seconds, words } from "./names.js";

const NEUTRALISATIONS = Object.freeze({ NONE: "", SAFETY_CAR: "SC", VSC: "VSC", RED_FLAG: "Red" });

/** Places before and after, `P4 → P7`, and by their look and in words what was lost. */
export function places(row) {
  if (row.position_before === null && row.position_after === null) return UNKNOWN;
  const text = `P${number(row.position_before)} → P${number(row.position_after)}`;
  if (!row.positions_lost) return text;
  const [tone, verb] = row.positions_lost > 0 ? ["red", "lost"] : ["green", "gained"];
  return { text, tone, spoken: `${Math.abs(row.positions_lost)} ${verb}` };
}

export const pitStops = {
  id: "pit-stops",
  title: "Pit stops",
  caption: "Passes through the pit lane, newest first",
  empty: "No car has been through the pit lane yet.",
  columns: [
    { label: "Lap", className: "c-lap" }, { label: "Car", className: "c-car" }, { label: "What", className: "c-what" }, { label: "Tyre", className: "c-tyre" },
    { label: "Lane", title: "Time in the pit lane", className: "c-number" },
    { label: "Stood", title: "Time standing still; ~ when estimated from the car's speed", className: "c-number" },
    { label: "Places", title: "Place when it came in and when it was back on the track", className: "c-number" },
    { label: "Exp.", title: "Place expected when the car came in", className: "c-number" },
    { label: "Cost", title: "In-lap and out-lap against the car's own pace", className: "c-number" },
  ],
  rows: (store) => [...store.rows("pit_stops").values()]
    .sort((a, b) => Date.parse(b.exited_at) - Date.parse(a.exited_at) || b.fact_seq - a.fact_seq)
    .map((row) => ({
      id: `${row.driver_number}/${row.lap_number}/${row.pass}`,
      fact: row.fact_id,
      cells: [
        lapOf(row.lap_number), carCell(store, row.driver_number),
        { text: [row.kind === "STOP" ? `Stop ${number(row.stop_number)}` : words(row.kind), NEUTRALISATIONS[row.neutralisation]].filter(Boolean).join(" · "), tone: row.neutralisation === "NONE" ? "" : "yellow" },
        row.compound ? { text: "", spoken: COMPOUNDS[row.compound][1], letter: [COMPOUNDS[row.compound][0], row.compound] } : UNKNOWN,
        seconds(row.lane_ms), standing(store, row), places(row),
        row.predicted_position === null ? UNKNOWN : `P${row.predicted_position}`, seconds(row.loss_ms),
      ],
    })),
};

/** Time standing: as the feed reports it, else as estimated from the samples of the same pass, and then marked. */
function standing(store, row) {
  if (row.stationary_ms !== null) return row.stationary_is_estimated ? `~${seconds(row.stationary_ms)}` : seconds(row.stationary_ms);
  const estimate = store.rows("pit_passes").get(`${row.driver_number}/${row.lap_number}`);
  return estimate ? { text: `~${seconds(estimate.stationary_ms)}`, spoken: `estimated, within ${seconds(estimate.stationary_error_ms)}` } : UNKNOWN;
}
