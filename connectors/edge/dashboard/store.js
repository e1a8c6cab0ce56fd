/**
 * What the page knows: the newest row of each key of each channel, and the few histories that charts are drawn from.
 * Nothing here touches the page.
 */
import { instant } from "./format.js";

const KEYS = Object.freeze({
  stints: (row) => `${row.driver_number}/${row.stint_number}`,
  laps: (row) => `${row.driver_number}/${row.lap_number}`,
});
const BY_DRIVER = (row) => row.driver_number;
const ONE_ROW = () => 0;
const ONE_ROW_CHANNELS = new Set(["track_status", "race_clock", "probability", "circuit"]);

/** Facts kept of one history: more than a race has; the oldest go first. */
export const HISTORY_MAX = 20_000;

/** The key under which a channel's rows replace one another, as docs/protocol.md lists it. */
export function keyOf(channel, row) {
  if (KEYS[channel]) return KEYS[channel](row);
  return (ONE_ROW_CHANNELS.has(channel) ? ONE_ROW : BY_DRIVER)(row);
}

/** Rows of one channel, and the position they stand at. */
class Channel {
  rows = new Map();
  /** `{epoch, seq, known_at}` of the last message, or null. */
  position = null;
}

export class Store {
  #channels = new Map();
  /** Facts in order of channels that charts draw over time. */
  history = { positions: [], race_clock: [], track_status: [], probability: [] };
  /** When the newest message of any channel was known, ms since 1970. */
  knownAt = null;

  channel(name) {
    let channel = this.#channels.get(name);
    if (!channel) this.#channels.set(name, (channel = new Channel()));
    return channel;
  }

  rows(name) {
    return this.channel(name).rows;
  }

  /** The row of a channel that has only one. */
  row(name) {
    return this.rows(name).get(0) ?? null;
  }

  /** Takes a snapshot (forgetting what was there) or a frame. */
  take(name, message, isSnapshot) {
    const channel = this.channel(name);
    if (isSnapshot) channel.rows = new Map();
    for (const row of message.rows) channel.rows.set(keyOf(name, row), row);
    channel.position = { epoch: message.epoch, seq: message.seq, knownAt: instant(message.known_at) };
    this.knownAt = Math.max(this.knownAt ?? 0, channel.position.knownAt ?? 0);
    if (this.history[name]) this.extend(name, message.rows);
  }

  /** Adds facts to a history wherever they belong; one known already is not added again. */
  extend(name, rows) {
    const history = this.history[name];
    const sequenceOf = (row) => row.fact_seq;
    const last = history.length ? sequenceOf(history.at(-1)) : -1;
    const added = rows.filter((row) => sequenceOf(row) > last);
    if (added.length === rows.length) {
      history.push(...added.sort((a, b) => sequenceOf(a) - sequenceOf(b)));
    } else {
      const merged = new Map([...history, ...rows].map((row) => [sequenceOf(row), row]));
      this.history[name] = [...merged.values()].sort((a, b) => sequenceOf(a) - sequenceOf(b));
    }
    const excess = this.history[name].length - HISTORY_MAX;
    if (excess > 0) this.history[name].splice(0, excess);
  }

  /** Leaves everything behind, as when another session or epoch begins. */
  clear() {
    this.#channels.clear();
    for (const name of Object.keys(this.history)) this.history[name] = [];
    this.knownAt = null;
  }
}

/** How long after a car ends a lap the order at the line may still arrive, ms. */
const ORDER_LAG_MS = 1_500;

/**
 * The place of every driver at the end of every lap: what the timing line said last then. `places[0]` is the place at the start.
 * A lap whose end nobody knows has no place.
 *
 * @returns {Map<number, (number|undefined)[]>} By driver number, then by lap.
 */
export function placesByLap(laps, positions) {
  const changes = new Map();
  for (const row of positions) {
    const list = changes.get(row.driver_number) ?? [];
    list.push([instant(row.event_time ?? row.known_at), row.position]);
    changes.set(row.driver_number, list);
  }
  const places = new Map();
  for (const [driver, list] of changes) {
    list.sort((a, b) => a[0] - b[0]);
    places.set(driver, [list[0][1]]);
  }
  for (const row of laps) {
    if (row.lap_ms === null || !row.started_at || !changes.has(row.driver_number)) continue;
    const end = instant(row.started_at) + row.lap_ms + ORDER_LAG_MS;
    let place;
    for (const [time, position] of changes.get(row.driver_number)) {
      if (time > end) break;
      place = position;
    }
    places.get(row.driver_number)[row.lap_number] = place;
  }
  return places;
}

/**
 * Spells that were not green: `{status, from, to}`, times in ms since 1970, laps in `fromLap` and `toLap`; `to` is null while it lasts.
 */
export function slowSpells(statuses) {
  const spells = [];
  for (const row of statuses) {
    const open = spells.at(-1)?.to === null ? spells.at(-1) : null;
    const status = row.status === "VSC_ENDING" ? "VSC" : row.status;
    if (open && open.status !== status) {
      open.to = instant(row.known_at);
      open.toLap = row.lap_number;
    }
    if (["SAFETY_CAR", "VSC", "RED"].includes(status) && open?.status !== status) {
      spells.push({ status, from: instant(row.known_at), to: null, fromLap: row.lap_number, toLap: null });
    }
  }
  return spells;
}
