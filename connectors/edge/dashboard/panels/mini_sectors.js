/** Mini-sectors of each car's newest lap, as they light up. */
import { lapTime, MARKS, sectorTime, UNKNOWN } from "../format.js";
import { carCell, number } from "./names.js";

/** What a mini-sector's code means; codes are OpenF1's. */
export const SEGMENTS = Object.freeze({ 0: "none", 2048: "yellow", 2049: "green", 2051: "purple", 2064: "pit lane" });

/** The mini-sectors of one sector in words: `3 green, 1 purple`. */
export function inWords(codes) {
  const counts = new Map();
  for (const code of codes) if (code) counts.set(code, (counts.get(code) ?? 0) + 1);
  return [...counts].map(([code, count]) => `${count} ${SEGMENTS[code] ?? "unknown"}`).join(", ") || "none yet";
}

/** The newest lap with mini-sectors of each car, by driver number. */
export function newestLaps(laps) {
  const newest = new Map();
  for (const lap of laps) {
    const hasAny = [1, 2, 3].some((sector) => lap[`segments_${sector}`].some((code) => code !== 0));
    if (hasAny && lap.lap_number >= (newest.get(lap.driver_number)?.lap_number ?? 0)) newest.set(lap.driver_number, lap);
  }
  return newest;
}

function sectorCell(lap, sector) {
  const codes = lap[`segments_${sector}`];
  const ms = lap[`sector_${sector}_ms`];
  const mark = ms === null ? "NONE" : lap[`sector_${sector}_mark`];
  return { text: ms === null ? "" : sectorTime(ms), tone: `mark-${mark}`, spoken: MARKS[mark][1], blocks: { codes, words: `Sector ${sector}: ${inWords(codes)}.` } };
}

function lapCell(lap) {
  if (lap.is_deleted) return { text: lapTime(lap.lap_ms), tone: "deleted", spoken: "deleted" };
  if (lap.lap_ms !== null) return { text: lapTime(lap.lap_ms), tone: `mark-${lap.lap_mark}` };
  return { text: lap.is_pit_out_lap ? "Out lap" : UNKNOWN };
}

export const miniSectors = {
  id: "mini-sectors",
  title: "Mini-sectors",
  caption: "Mini-sectors and sectors of each car's newest lap",
  empty: "This session's data has no mini-sectors yet.",
  columns: [
    { label: "Lap", className: "c-lap" }, { label: "P", title: "Position", className: "c-number" }, { label: "Car", className: "c-car" },
    { label: "Sector 1", className: "c-segments" }, { label: "Sector 2", className: "c-segments" }, { label: "Sector 3", className: "c-segments" }, { label: "Time", className: "c-number" },
  ],
  rows: (store) => {
    const placeOf = (driver) => store.rows("timing").get(driver)?.position ?? null;
    return [...newestLaps(store.rows("laps").values()).values()]
      .sort((a, b) => (placeOf(a.driver_number) ?? 1_000) - (placeOf(b.driver_number) ?? 1_000) || a.driver_number - b.driver_number)
      .map((lap) => ({
        id: lap.driver_number,
        fact: lap.fact_id,
        cells: [`L${lap.lap_number}`, number(placeOf(lap.driver_number)), carCell(store, lap.driver_number), sectorCell(lap, 1), sectorCell(lap, 2), sectorCell(lap, 3), lapCell(lap)],
      }));
  },
};
