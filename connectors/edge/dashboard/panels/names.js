/** How panels name cars, laps and kinds. */
import { teamColour, UNKNOWN } from "../format.js";

/** The car's three letters, or its number while nobody has told them. */
export function nameOf(store, number) {
  return store.rows("drivers").get(number)?.acronym ?? store.rows("timing").get(number)?.acronym ?? `Car ${number}`;
}

/** A cell with the car's name and its team's colour. */
export function carCell(store, number) {
  if (number === null || number === undefined) return UNKNOWN;
  const row = store.rows("drivers").get(number) ?? store.rows("timing").get(number);
  return { text: nameOf(store, number), colour: teamColour(row?.team_colour) };
}

/** `L23`; an en dash outside a lap. */
export function lapOf(number) {
  return number === null || number === undefined ? UNKNOWN : `L${number}`;
}

/** `SAFETY_CAR` as `Safety car`. */
export function words(symbol) {
  if (!symbol) return UNKNOWN;
  const text = symbol.toLowerCase().replaceAll("_", " ");
  return text[0].toUpperCase() + text.slice(1);
}

/** Seconds with one decimal of milliseconds, `21.4 s`; the sign is written when asked for. */
export function seconds(ms, isSigned = false, digits = 1) {
  if (ms === null || ms === undefined) return UNKNOWN;
  const sign = ms < 0 ? "−" : isSigned ? "+" : "";
  return `${sign}${(Math.abs(ms) / 1_000).toFixed(digits)} s`;
}

/** A whole number or an en dash. */
export function number(value) {
  return value === null || value === undefined ? UNKNOWN : String(value);
}

/** Rows of a channel, newest first by this number of theirs. */
export function newestFirst(store, channel, field) {
  return [...store.rows(channel).values()].sort((a, b) => b[field] - a[field]);
}
