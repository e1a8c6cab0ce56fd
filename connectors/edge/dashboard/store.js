/**
 * What the page knows: the newest row of each key of each channel, and the few histories that charts are drawn from.
 * Nothing here touches the page.
 */
import { instant } from "./format.js";

/** Facts kept of one history: more than a race has; the oldest go first. */
export const HISTORY_MAX = 20_000;

/** The key under which a channel's rows replace one another, from the fields that the session names for it. */
export function keyOf(fields, row) {
  if (fields.length === 0) return 0;
  return fields.length === 1 ? row[fields[0]] : fields.map((field) => row[field]).join("/");
}

/** Rows of one channel, and the position they stand at. */
class Channel {
  rows = new Map();
  /** `{epoch, seq, known_at}` of the last message, or null. */
  position = null;
}

export class Store {
  #channels = new Map();
  /** Fields of each channel's key. */
  #keys = new Map();
  /** Facts in order of channels that charts draw over time. */
  history = { positions: [], race_clock: [], track_status: [], probability: [] };
  /** When the newest message of any channel was known, ms since 1970. */
  knownAt = null;

  /** @param {{channel: string, key: string[]}[]} channels As the session lists them. */
  constructor(channels = []) {
    this.describe(channels);
  }

  /** Learns the keys of these channels. */
  describe(channels) {
    for (const { channel, key } of channels) this.#keys.set(channel, key);
  }

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
    const fields = this.#keys.get(name) ?? ["driver_number"];
    // A frame without a `prev` holds the whole channel as well.
    if (isSnapshot || message.prev === null) channel.rows = new Map();
    for (const row of message.rows) {
      if (row.withdrawn) channel.rows.delete(keyOf(fields, row));
      else channel.rows.set(keyOf(fields, row), row);
    }
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

  /** The histories as they were at an instant, ms since 1970. */
  historyUntil(knownAt) {
    return Object.fromEntries(Object.entries(this.history).map(([name, rows]) => [name, rows.filter((row) => instant(row.known_at) <= knownAt)]));
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
 * The gap to whoever ended the same lap first, of every driver at the end of every lap, ms. Taken from session time, never from summed lap
 * times; a lapped car is compared on its own lap. A lap whose end nobody knows has no gap.
 *
 * @returns {Map<number, (number|undefined)[]>} By driver number, then by lap.
 */
export function gapsByLap(laps) {
  const ends = new Map();
  for (const row of laps) {
    if (row.lap_ms === null || !row.started_at) continue;
    const list = ends.get(row.lap_number) ?? [];
    list.push([row.driver_number, instant(row.started_at) + row.lap_ms]);
    ends.set(row.lap_number, list);
  }
  const gaps = new Map();
  for (const [lap, list] of ends) {
    const first = Math.min(...list.map(([, end]) => end));
    for (const [driver, end] of list) {
      if (!gaps.has(driver)) gaps.set(driver, []);
      gaps.get(driver)[lap] = Math.round(end - first);
    }
  }
  return gaps;
}

/** Whether the session is a qualifying: it names its segment. */
export function isQualifying(store) {
  return (store.row("track_status")?.qualifying_phase ?? null) !== null;
}

/** Whether the session was joined after its start: what came before is not known. */
export function isJoinedLate(store) {
  for (const row of store.rows("completeness").values()) if (row.subject === "SESSION_START" && row.is_missing) return true;
  return false;
}

/** Whether the session is a race: its track status names the leader's lap, or some car has a gap to the leader. */
export function isRace(store) {
  if (isQualifying(store)) return false;
  if ((store.row("track_status")?.lap_number ?? null) !== null) return true;
  for (const row of store.rows("timing").values()) if (row.gap_ms !== null || row.laps_behind) return true;
  return false;
}

/** Cars that go on from each segment of qualifying: all but five in each of the first two with 20 cars, six with 22. */
export function placesThatGoOn(phase, cars) {
  if (phase !== 1 && phase !== 2) return null;
  const out = cars > 20 ? 6 : 5;
  const last = phase === 1 ? cars - out : 10;
  return last > 0 && last < cars ? last : null;
}

/**
 * Best lap and gap of each car in the last segment of qualifying that it has a time in, ms: `{bestMs, gapMs}` by driver number. The gap is to
 * the best of that segment.
 */
export function qualifyingBests(rows) {
  const provisional = [...rows].filter((row) => row.basis === "PROVISIONAL");
  const bests = new Map();
  for (const row of provisional) {
    const field = ["segment_3_ms", "segment_2_ms", "segment_1_ms"].find((name) => row[name] !== null);
    if (!field) continue;
    const best = Math.min(...provisional.map((other) => other[field] ?? Infinity));
    bests.set(row.driver_number, { bestMs: row[field], gapMs: row[field] - best });
  }
  return bests;
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
