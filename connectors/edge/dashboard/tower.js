/** The timing tower: one table row a car, only changed cells touched, places swapped with a short slide. */
import { CAR_STATES, COMPOUNDS, gap, lapTime, MARKS, sectorTime } from "./format.js";
import { teamColour } from "./format.js";
import { segmentBlocks } from "./panels/table.js";
import { inWords } from "./panels/mini_sectors.js";

/** An interval below this is within striking distance, ms. */
const CLOSE_MS = 1_000;
const SLIDE_MS = 380;

const COLUMNS = [
  ["position", "c-position"],
  ["change", "c-change"],
  ["driver", "c-driver"],
  ["gap", "c-gap"],
  ["interval", "c-interval"],
  ["last_lap", "c-last"],
  ["best_lap", "c-best"],
  ["sector_1", "c-sector"],
  ["sector_2", "c-sector"],
  ["sector_3", "c-sector"],
  ["tyre", "c-tyre"],
  ["stops", "c-stops"],
  ["state", "c-state"],
];

/** Rows in the order of the tower: by place, retired cars last, cars without a place after those with one. */
export function inOrder(rows) {
  const rank = (row) => (row.state === "RETIRED" ? 2_000 : 0) + (row.position ?? 1_000);
  return [...rows].sort((a, b) => rank(a) - rank(b) || a.driver_number - b.driver_number);
}

/** What each cell of a row says: `[text, kind, spoken]`. `kind` chooses the look, `spoken` is read out after the text. */
export function cellsOf(row, startPlace, fastestMs, isDisputed = false) {
  const isLeader = row.position === 1;
  const isOut = row.state === "RETIRED";
  const gained = startPlace && row.position && !isOut ? startPlace - row.position : 0;
  const marked = (text, mark) => [text, `mark-${mark}`, MARKS[mark][1], MARKS[mark][0]];
  const isClose = !isLeader && row.interval_ms !== null && row.interval_ms < CLOSE_MS && !row.interval_laps && row.state !== "FINISHED";
  return {
    position: !isOut && row.position && isDisputed
      ? [`${row.position}?`, "disputed", "disputed: the car's own laps and locations say otherwise"]
      : [isOut ? "–" : String(row.position ?? "–"), "", ""],
    change: gained === 0 ? ["", "", ""] : [String(Math.abs(gained)), gained > 0 ? "gained" : "lost", gained > 0 ? "gained" : "lost"],
    gap: [isOut ? "–" : isLeader ? "Leader" : gap(row.gap_ms, row.laps_behind), "", ""],
    interval: [isOut || isLeader ? "–" : gap(row.interval_ms, row.interval_laps), isClose ? "close" : "", isClose ? "within a second" : ""],
    last_lap: marked(lapTime(row.last_lap_ms), row.last_lap_mark ?? "NONE"),
    best_lap: row.best_lap_ms !== null && row.best_lap_ms === fastestMs
      ? marked(lapTime(row.best_lap_ms), "PURPLE")
      : marked(lapTime(row.best_lap_ms), "NONE"),
    sector_1: marked(sectorTime(row.sector_1_ms), row.sector_1_ms === null ? "NONE" : row.sector_1_mark),
    sector_2: marked(sectorTime(row.sector_2_ms), row.sector_2_ms === null ? "NONE" : row.sector_2_mark),
    sector_3: marked(sectorTime(row.sector_3_ms), row.sector_3_ms === null ? "NONE" : row.sector_3_mark),
    tyre: row.compound === null ? ["–", "", ""] : [row.tyre_age === null ? "" : String(row.tyre_age), `tyre-${row.compound}`, COMPOUNDS[row.compound][1]],
    stops: [String(row.stops), "", ""],
    state: [CAR_STATES[row.state] ?? "", `state-${row.state}`, ""],
  };
}

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/** One row of the table, and what it says now. */
class CarRow {
  constructor(row, onSelect) {
    this.driver = row.driver_number;
    this.said = {};
    this.cells = {};
    this.node = element("tr");
    this.node.dataset.driver = String(row.driver_number);
    for (const [field, className] of COLUMNS) {
      const cell = element(field === "driver" ? "th" : "td", className);
      cell.dataset.field = field;
      if (field === "driver") cell.scope = "row";
      this.cells[field] = cell;
      this.node.append(cell);
    }
    this.button = element("button", "driver-button");
    this.button.type = "button";
    this.button.tabIndex = -1;
    this.bar = element("span", "team-bar");
    this.name = element("span", "acronym");
    this.fullName = element("span", "hidden");
    this.button.append(this.bar, this.name, this.fullName);
    this.cells.driver.append(this.button);
    this.node.addEventListener("click", () => onSelect(this.driver));
  }

  update(row, driver, startPlace, fastestMs, more) {
    const name = row.acronym ?? driver?.acronym ?? String(row.driver_number);
    const colour = teamColour(row.team_colour ?? driver?.team_colour);
    if (this.said.name !== name) this.name.textContent = this.said.name = name;
    if (this.said.fullName !== driver?.full_name) this.fullName.textContent = ` ${(this.said.fullName = driver?.full_name) ?? ""}`;
    if (this.said.colour !== colour) this.bar.style.backgroundColor = this.said.colour = colour;
    if (this.said.state !== row.state) this.node.dataset.state = this.said.state = row.state;
    const cells = cellsOf(row, startPlace, fastestMs, more.isDisputed);
    if (more.gapMs !== undefined) cells.gap = [more.gapMs === 0 ? "Best" : gap(more.gapMs), "", ""];
    if (row.best_lap_ms === null && more.bestMs) cells.best_lap = [lapTime(more.bestMs), "mark-NONE", "", ""];
    if (more.isEliminated) cells.state = ["Out", "state-RETIRED", "does not go on"];
    if (this.node.classList.contains("cut") !== more.isCut) this.node.classList.toggle("cut", more.isCut);
    for (const [field, content] of Object.entries(cells)) {
      const codes = field.startsWith("sector_") && more.lap ? more.lap[`segments_${field.at(-1)}`] : [];
      const said = `${content.join("|")}|${codes.join()}`;
      if (this.said[field] === said) continue;
      this.said[field] = said;
      this.write(this.cells[field], field, content);
      if (codes.length) this.cells[field].append(segmentBlocks({ codes, words: `Mini-sectors: ${inWords(codes)}.` }));
    }
  }

  write(cell, field, [text, kind, spoken, letter = ""]) {
    cell.dataset.kind = kind;
    cell.dataset.value = text;
    if (field === "tyre" && kind) {
      const ring = element("span", `tyre ${kind}`, COMPOUNDS[kind.slice("tyre-".length)][0]);
      ring.setAttribute("aria-hidden", "true");
      cell.replaceChildren(ring, element("span", "hidden", `${spoken}, age `), element("span", "tyre-age", text));
      return;
    }
    const parts = [element("span", "value", text)];
    if (letter) {
      const badge = element("span", "letter", letter);
      badge.setAttribute("aria-hidden", "true");
      parts.push(badge);
    }
    if (spoken) parts.push(element("span", "hidden", `, ${spoken}`));
    cell.replaceChildren(...parts);
  }
}

export class Tower {
  #body;
  #rows = new Map();
  #order = [];
  #wasStill = false;
  #onSelect;
  #selected = null;
  #reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");

  /** @param {(driverNumber: number) => void} onSelect Called when a row is clicked or entered. */
  constructor(body, onSelect) {
    this.#body = body;
    this.#onSelect = onSelect;
    body.addEventListener("keydown", (event) => this.#move(event));
  }

  /**
   * Shows these rows of `timing`. `drivers`, `startPlaces`, `laps` (each car's newest lap with mini-sectors) and `qualifying` (see
   * `qualifyingBests`) are by driver number; `eliminated` are the cars that do not go on, `disputed` those whose own laps refute their place,
   * `lastThatGoesOn` the place above the cut. `isStill`: nothing moves,
   * as when the past is shown.
   */
  render(timing, { drivers, startPlaces, laps = new Map(), qualifying = new Map(), eliminated = new Set(), disputed = new Set(), lastThatGoesOn = null, isStill = false }) {
    const ordered = inOrder(timing);
    const fastestMs = Math.min(...ordered.map((row) => row.best_lap_ms ?? Infinity));
    const order = ordered.map((row) => row.driver_number);
    for (const row of ordered) {
      let carRow = this.#rows.get(row.driver_number);
      if (!carRow) this.#rows.set(row.driver_number, (carRow = new CarRow(row, this.#onSelect)));
      carRow.update(row, drivers.get(row.driver_number), startPlaces.get(row.driver_number), fastestMs, {
        lap: laps.get(row.driver_number), ...qualifying.get(row.driver_number), isEliminated: eliminated.has(row.driver_number), isCut: row.position !== null && row.position === lastThatGoesOn,
        isDisputed: disputed.has(row.driver_number),
      });
    }
    // The first live tower after a look at the past is another moment too: it does not move into place either.
    if (order.join() !== this.#order.join()) this.#reorder(order, isStill || this.#wasStill);
    this.#wasStill = isStill;
    this.#focusable();
  }

  select(driver) {
    this.#rows.get(this.#selected)?.node.classList.remove("selected");
    this.#rows.get(this.#selected)?.button.removeAttribute("aria-pressed");
    this.#selected = driver;
    const row = this.#rows.get(driver);
    row?.node.classList.add("selected");
    row?.button.setAttribute("aria-pressed", "true");
    this.#focusable();
  }

  #reorder(order, isStill) {
    const before = new Map();
    const slides = !isStill && this.#order.length > 0 && !this.#reducedMotion.matches && !document.hidden;
    if (slides) for (const driver of this.#order) before.set(driver, this.#rows.get(driver).node.offsetTop);
    const focused = document.activeElement;
    for (const driver of this.#order) if (!order.includes(driver)) this.#rows.get(driver).node.remove();
    for (const driver of order) this.#body.append(this.#rows.get(driver).node);
    if (isStill) for (const driver of order) this.#rows.get(driver).node.classList.remove("rise", "fall");
    if (focused !== document.activeElement && this.#body.contains(focused)) focused.focus({ preventScroll: true });
    for (const driver of slides ? order : []) {
      const { node } = this.#rows.get(driver);
      const from = (before.get(driver) ?? node.offsetTop) - node.offsetTop;
      if (from === 0) continue;
      node.animate([{ transform: `translateY(${from}px)` }, { transform: "none" }], { duration: SLIDE_MS, easing: "cubic-bezier(.2,.8,.2,1)" });
      const kind = from > 0 ? "rise" : "fall";
      node.classList.remove("rise", "fall");
      node.classList.add(kind);
      clearTimeout(node.settled);
      node.settled = setTimeout(() => node.classList.remove(kind), 1_600);
    }
    this.#order = order;
  }

  /** One row is reached with Tab, the others with the arrows. */
  #focusable() {
    const current = this.#order.includes(this.#selected) ? this.#selected : this.#order[0];
    for (const driver of this.#order) {
      const { button } = this.#rows.get(driver);
      const tabIndex = driver === current || button === document.activeElement ? 0 : -1;
      if (button.tabIndex !== tabIndex) button.tabIndex = tabIndex;
    }
  }

  #move(event) {
    const at = this.#order.findIndex((driver) => this.#rows.get(driver).button === document.activeElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: this.#order.length - 1 }[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    this.#rows.get(this.#order[Math.max(0, Math.min(this.#order.length - 1, to))]).button.focus();
    this.#focusable();
  }
}
