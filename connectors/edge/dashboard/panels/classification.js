/** The classification as it stands and as published, and the championship that would follow. */
import { lapTime, UNKNOWN } from "../format.js";
import { isQualifying } from "../store.js";
import { carCell, number, words } from "./names.js";

const STATUS_TONES = Object.freeze({ RETIRED: "red", DISQUALIFIED: "red", NOT_STARTED: "red", ELIMINATED: "red", FINISHED: "green" });

/** Pairs of provisional and official rows in order of the provisional place; cars without a place last. */
export function lines(rows) {
  const byDriver = new Map();
  for (const row of rows) {
    const pair = byDriver.get(row.driver_number) ?? {};
    pair[row.basis === "OFFICIAL" ? "official" : "provisional"] = row;
    byDriver.set(row.driver_number, pair);
  }
  const placeOf = (pair) => pair.official?.position ?? pair.provisional?.position ?? 1_000 - (pair.provisional?.laps_completed ?? 0);
  return [...byDriver].sort((a, b) => placeOf(a[1]) - placeOf(b[1]) || a[0] - b[0]).map(([driver, pair]) => ({ driver, ...pair }));
}

/** Whether a published result has come. */
export const isOfficial = (store) => [...store.rows("classification").values()].some((row) => row.basis === "OFFICIAL");

function line(store, { driver, provisional, official }) {
  const newest = provisional ?? official;
  const differs = provisional && official && provisional.position !== official.position;
  const onRoad = newest.on_road_position !== null && newest.on_road_position !== newest.position ? { text: String(newest.on_road_position), tone: "yellow" } : "";
  const times = isQualifying(store)
    ? [1, 2, 3].map((segment) => { const ms = newest[`segment_${segment}_ms`]; return ms === null ? "" : lapTime(ms); })
    : [onRoad, number(newest.laps_completed), newest.penalty_seconds ? { text: `+${newest.penalty_seconds} s`, tone: "red" } : "", number(newest.points)];
  return {
    id: driver,
    fact: newest.fact_id,
    tone: newest.status === "ELIMINATED" || newest.status === "RETIRED" ? "over" : "",
    cells: [
      number(provisional?.position ?? null), official ? { text: number(official.position), tone: differs ? "yellow" : "" } : UNKNOWN,
      carCell(store, driver), { text: words(newest.status), tone: STATUS_TONES[newest.status] ?? "" }, ...times,
      newest.best_lap_ms === null ? UNKNOWN : lapTime(newest.best_lap_ms),
    ],
  };
}

const COLUMNS = [
  { label: "Place", className: "c-lap" }, { label: "Official", title: "Place in the published result", className: "c-number" }, { label: "Car", className: "c-car" },
  { label: "Status", className: "c-what" },
];
const BEST = { label: "Best", className: "c-number" };

const shared = {
  title: "Classification",
  caption: "Classification: as the cars stand, and as published once it is",
  empty: "No classification yet.",
  rows: (store) => lines(store.rows("classification").values()).map((pair) => line(store, pair)),
  summary: (store) => (store.rows("classification").size === 0 ? [] : [{ label: "Classification", text: isOfficial(store) ? "official" : "provisional", tone: isOfficial(store) ? "green" : "yellow" }]),
};

export const raceClassification = {
  ...shared,
  id: "classification",
  columns: [...COLUMNS, { label: "Road", title: "Place on the road, where it is another", className: "c-number" }, { label: "Laps", className: "c-number" }, { label: "Penalty", className: "c-number" }, { label: "Points", className: "c-number" }, BEST],
};

export const qualifyingClassification = {
  ...shared,
  id: "classification-qualifying",
  columns: [...COLUMNS, { label: "Q1", className: "c-number" }, { label: "Q2", className: "c-number" }, { label: "Q3", className: "c-number" }, BEST],
};

export const championship = {
  id: "championship",
  title: "Championship",
  caption: "Championship as it would be if the session ended now",
  empty: "The standings before this session are not in its data.",
  columns: [
    { label: "Place", className: "c-lap" }, { label: "Was", title: "Place before the session", className: "c-number" }, { label: "Who", className: "c-car" }, { label: "Before", title: "Points before the session", className: "c-number" },
    { label: "Now", title: "Points as it stands", className: "c-number" }, { label: "Published", className: "c-number" },
  ],
  rows: (store) => [...store.rows("championship").values()]
    .sort((a, b) => a.championship.localeCompare(b.championship) || (a.position_as_it_stands ?? 1_000) - (b.position_as_it_stands ?? 1_000) || a.name.localeCompare(b.name))
    .map((row) => ({
      id: `${row.championship}/${row.name}`,
      fact: row.fact_id,
      cells: [
        `${row.championship === "TEAMS" ? "T" : ""}${number(row.position_as_it_stands ?? row.position_start)}`,
        number(row.position_start), row.driver_number === null ? row.name : carCell(store, row.driver_number),
        number(row.points_start), number(row.points_as_it_stands), number(row.points_published),
      ],
    })),
};
