/** What the cars' locations alone say: laps, order and pit lane passes without the feed's own timing, and where the two disagree. */
import { lapTime, UNKNOWN } from "../format.js";
import { carCell, lapOf, newestFirst, seconds } from "./names.js";

const LINE_SOURCES = Object.freeze({ GRID: "the grid", LAPS: "laps" });

/** `±60 ms`: how far an estimate may be off. */
function within(ms) {
  return `±${ms} ms`;
}

/** Where the timing line was learned from and how well. */
export function lineChips(row) {
  if (!row) return [];
  return [{ label: "Timing line", text: `learned from ${LINE_SOURCES[row.source] ?? row.source}, ±${row.error_m} m` }];
}

export const positionChecks = {
  id: "position-checks",
  title: "By location",
  caption: "Places at the end of a lap where the feed and the locations disagree, newest first",
  empty: "The feed's order is the one that the locations give.",
  columns: [
    { label: "Lap", className: "c-lap" }, { label: "Car", className: "c-car" },
    { label: "Feed", title: "Place in the feed among the cars that completed the lap", className: "c-number" },
    { label: "Location", title: "Place by crossings of the timing line among the same cars", className: "c-number" },
  ],
  rows: (store) => newestFirst(store, "position_check", "fact_seq").map((row) => ({
    id: `${row.driver_number}/${row.lap_number}`,
    fact: row.fact_id,
    cells: [lapOf(row.lap_number), carCell(store, row.driver_number), `P${row.position}`, { text: `P${row.estimated_position}`, tone: "yellow" }],
  })),
  summary: (store) => {
    const chips = lineChips(store.row("timing_line"));
    const newest = newestFirst(store, "position_check", "fact_seq")[0];
    if (newest) chips.push({ label: "Disagree", text: `${newest.disagreements} of ${newest.comparisons} places`, tone: "yellow" });
    return chips;
  },
};

export const estimatedLaps = {
  id: "estimated-laps",
  title: "Laps by location",
  caption: "Laps timed by locations alone beside the feed's own, newest first",
  empty: "No car has crossed the learned timing line twice yet.",
  columns: [
    { label: "Lap", className: "c-lap" }, { label: "Car", className: "c-car" },
    { label: "Estimated", title: "Lap time by two crossings of the timing line", className: "c-number" },
    { label: "Within", title: "Error bound of the estimate", className: "c-number" },
    { label: "Off", title: "Estimate less the feed's lap time", className: "c-number" },
    { label: "Place", title: "Place at the end of the lap, by the crossings", className: "c-number" },
    { label: "Gap", title: "Behind the first to end the lap, by the crossings", className: "c-number" },
  ],
  rows: (store) => newestFirst(store, "estimated_laps", "fact_seq").map((row) => {
    const key = `${row.driver_number}/${row.lap_number}`;
    const place = store.rows("estimated_order").get(key);
    const timed = store.rows("laps").get(key)?.lap_ms ?? null;
    return {
      id: `${row.driver_number}/${row.started_at}`,
      fact: row.fact_id,
      cells: [
        lapOf(row.lap_number), carCell(store, row.driver_number), { text: lapTime(row.lap_ms), spoken: "estimated" }, within(row.error_ms),
        timed === null ? UNKNOWN : seconds(row.lap_ms - timed, true, 3), place ? `P${place.position}` : UNKNOWN,
        place ? seconds(place.gap_ms, true) : UNKNOWN,
      ],
    };
  }),
};

export const pitPasses = {
  id: "pit-passes",
  title: "Pit lane by location",
  caption: "Passes through the pit lane by location and speed alone, newest first",
  empty: "No car has been seen in the pit lane by its location.",
  columns: [
    { label: "Lap", className: "c-lap" }, { label: "Car", className: "c-car" },
    { label: "Lane", title: "Estimated time at or below the limit", className: "c-number" },
    { label: "Stood", title: "Estimated time standing still", className: "c-number" },
    { label: "Within", title: "Error bound of the time standing", className: "c-number" },
  ],
  rows: (store) => newestFirst(store, "pit_passes", "fact_seq").map((row) => ({
    id: `${row.driver_number}/${row.entered_at}`,
    fact: row.fact_id,
    cells: [lapOf(row.lap_number), carCell(store, row.driver_number), `~${seconds(row.lane_ms)}`, `~${seconds(row.stationary_ms)}`, within(row.stationary_error_ms)],
  })),
};

export const lineCrossings = {
  id: "line-crossings",
  title: "At the line",
  caption: "The last crossing of the timing line of each car, newest first",
  empty: "No crossing of the timing line has been seen yet.",
  columns: [
    { label: "Car", className: "c-car" }, { label: "At", title: "On the clock of the locations", className: "c-what" },
    { label: "Within", title: "Error bound of the moment", className: "c-number" }, { label: "Speed", className: "c-number" }, { label: "Where", className: "c-what" },
  ],
  rows: (store) => newestFirst(store, "line_crossings", "fact_seq").map((row) => ({
    id: row.driver_number,
    fact: row.fact_id,
    cells: [
      carCell(store, row.driver_number), `${row.crossed_at.slice(11, 23)} UTC`, within(row.error_ms), `${row.speed} km/h`,
      row.is_in_pit_lane === null ? UNKNOWN : row.is_in_pit_lane ? { text: "Pit lane", tone: "blue" } : "Track",
    ],
  })),
};
