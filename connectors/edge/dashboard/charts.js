/** The charts: lap chart, gaps, win probability and stints, each an SVG with a cursor for pointer and keyboard and a table for screen readers. */
import { clock, COMPOUNDS, percent, teamColour } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";
const MARGIN = Object.freeze({ left: 34, right: 44, top: 12, bottom: 22 });
/** Lines of the win probability chart. */
const CONTENDERS_MAX = 5;
/** Least distance between two names at the ends of lines, px, and how wide a name is taken to be. */
const NAME_HEIGHT = 11;
const NAME_WIDTH = 34;
/** Points drawn of one line; more are thinned out evenly. */
const LINE_POINTS_MAX = 400;

function svg(tag, attributes = {}, text) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

/**
 * Places for names at the ends of lines, so that none covers another: names that would touch are pushed apart up and down, within the plot.
 * Each end gets `at`, the middle of its name.
 */
export function apart(ends, top, bottom) {
  const columns = [];
  // From the right, where most lines end: a name that would touch theirs belongs to them.
  for (const end of [...ends].sort((a, b) => b.x - a.x)) {
    const column = columns.at(-1);
    if (column && column.x - end.x < NAME_WIDTH) column.ends.push(end);
    else columns.push({ x: end.x, ends: [end] });
  }
  for (const column of columns) {
    const ordered = column.ends.sort((a, b) => a.y - b.y);
    const step = Math.min(NAME_HEIGHT, (bottom - top) / Math.max(1, ordered.length));
    let lowest = -Infinity;
    for (const end of ordered) lowest = end.at = Math.max(end.y, lowest + step);
    let highest = Math.max(bottom, top);
    for (const end of ordered.reverse()) {
      end.at = Math.min(end.at, highest);
      highest = end.at - step;
    }
  }
  return ends;
}

/** Lines over a common x axis, drawn anew whenever their data changes. */
class LineChart {
  constructor(container, label, { yText }) {
    this.container = container;
    this.label = label;
    this.yText = yText;
    this.clipId = `clip-${label.toLowerCase().replaceAll(" ", "-")}`;
    this.figure = svg("svg", { class: "plot", role: "img", tabindex: 0 });
    this.tip = document.createElement("p");
    this.tip.className = "tip";
    this.tip.hidden = true;
    this.tip.setAttribute("aria-live", "polite");
    this.table = document.createElement("table");
    this.table.className = "hidden";
    container.append(this.figure, this.tip, this.table);
    this.cursor = null;
    this.data = null;
    this.figure.addEventListener("pointermove", (event) => this.#point(event));
    this.figure.addEventListener("pointerleave", () => this.#setCursor(null));
    this.figure.addEventListener("blur", () => this.#setCursor(null));
    this.figure.addEventListener("keydown", (event) => this.#key(event));
    this.figure.addEventListener("click", () => this.cursor && this.onSelect?.(this.data.lines[this.cursor.line].driver));
    new ResizeObserver(() => this.draw()).observe(container);
  }

  /**
   * @param {object} data
   * @param {{driver: number, name: string, colour: string, isDashed: boolean, points: [number, number][]}[]} data.lines
   * @param {[number, number]} data.x Range of x. @param {[number, number]} data.y Range of y, the value at the bottom first.
   * @param {{at: number, text: string}[]} data.xTicks @param {{at: number, text: string}[]} data.yTicks
   * @param {{from: number, to: number, status: string}[]} data.bands Spells that were not green.
   * @param {(x: number) => string} data.xText Words for a place on the x axis.
   */
  set(data, selected) {
    this.data = data;
    this.selected = selected;
    this.draw();
  }

  draw() {
    const width = this.container.clientWidth;
    const height = this.container.clientHeight;
    if (!this.data || width < 80 || height < 60) return;
    const { lines, x, y, xTicks, yTicks, bands } = this.data;
    const right = width - MARGIN.right;
    const bottom = height - MARGIN.bottom;
    this.toX = (value) => MARGIN.left + ((value - x[0]) / (x[1] - x[0] || 1)) * (right - MARGIN.left);
    this.toY = (value) => bottom - ((value - y[0]) / (y[1] - y[0] || 1)) * (bottom - MARGIN.top);
    this.figure.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const clip = svg("clipPath", { id: this.clipId });
    clip.append(svg("rect", { x: MARGIN.left, y: MARGIN.top - 3, width: Math.max(0, right - MARGIN.left + 3), height: Math.max(0, bottom - MARGIN.top + 6) }));
    const parts = bands.map((band) => {
      const from = this.toX(Math.max(x[0], band.from));
      return svg("rect", { class: `band band-${band.status}`, x: from, y: MARGIN.top, width: Math.max(2, this.toX(Math.min(x[1], band.to)) - from), height: bottom - MARGIN.top });
    });
    for (const tick of yTicks) {
      parts.push(svg("line", { class: "grid", x1: MARGIN.left, x2: right, y1: this.toY(tick.at), y2: this.toY(tick.at) }));
      parts.push(svg("text", { class: "tick", x: MARGIN.left - 7, y: this.toY(tick.at), "text-anchor": "end", "dominant-baseline": "central" }, tick.text));
    }
    for (const tick of xTicks) {
      parts.push(svg("text", { class: "tick", x: this.toX(tick.at), y: height - 7, "text-anchor": "middle" }, tick.text));
    }
    const ordered = [...lines].sort((a, b) => (a.driver === this.selected) - (b.driver === this.selected));
    const ends = [];
    for (const line of ordered) {
      if (line.points.length === 0) continue;
      const isSelected = line.driver === this.selected;
      const className = `series${isSelected ? " selected" : ""}${this.selected !== null && !isSelected && lines.length > CONTENDERS_MAX ? " dimmed" : ""}`;
      const points = line.points.map(([px, py]) => `${this.toX(px).toFixed(1)},${this.toY(py).toFixed(1)}`).join(" ");
      parts.push(svg("polyline", { class: className, "data-driver": line.driver, "clip-path": `url(#${this.clipId})`, points, stroke: line.colour, ...(line.isDashed ? { "stroke-dasharray": "5 3" } : {}) }));
      const end = line.points.findLast(([, py]) => this.toY(py) >= MARGIN.top && this.toY(py) <= bottom) ?? line.points.at(-1);
      const isEarly = this.toX(end[0]) < right - NAME_WIDTH;
      ends.push({ x: this.toX(end[0]), nameX: (isEarly ? this.toX(end[0]) : right) + 7, y: Math.max(MARGIN.top, Math.min(bottom, this.toY(end[1]))), name: line.name, colour: line.colour, isSelected, isEarly });
    }
    for (const end of apart(ends, MARGIN.top, bottom)) {
      if (end.isEarly) parts.push(svg("circle", { class: "series-end", cx: end.x, cy: end.y, r: 3, fill: end.colour }));
      if (end.isEarly && Math.abs(end.at - end.y) > NAME_HEIGHT) parts.push(svg("line", { class: "series-leader", x1: end.x, y1: end.y, x2: end.x + 7, y2: end.at }));
      parts.push(svg("text", { class: `series-name${end.isSelected ? " selected" : ""}${end.isEarly ? " early" : ""}`, x: end.nameX, y: end.at, "dominant-baseline": "central" }, end.name));
    }
    this.mark = svg("circle", { class: "cursor", r: 4.5 });
    this.rule = svg("line", { class: "rule", y1: MARGIN.top, y2: bottom });
    parts.push(this.rule, this.mark);
    this.figure.replaceChildren(clip, ...parts);
    this.figure.setAttribute("aria-label", `${this.label}. ${this.data.summary} Arrow keys move along it.`);
    this.#showCursor();
  }

  /** Fills the table that stands for the chart. */
  describe(caption, headings, rows) {
    const head = document.createElement("tr");
    for (const heading of headings) head.append(Object.assign(document.createElement("th"), { scope: "col", textContent: heading }));
    const body = rows.map((row) => {
      const made = document.createElement("tr");
      row.forEach((text, index) => made.append(Object.assign(document.createElement(index === 0 ? "th" : "td"), { textContent: text, ...(index === 0 ? { scope: "row" } : {}) })));
      return made;
    });
    this.table.replaceChildren(Object.assign(document.createElement("caption"), { textContent: caption }), head, ...body);
  }

  #point(event) {
    if (!this.toX || !this.data) return;
    let best = null;
    this.data.lines.forEach((line, lineIndex) => line.points.forEach(([px, py], index) => {
      const distance = Math.hypot((this.toX(px) - event.offsetX) * 1.5, this.toY(py) - event.offsetY);
      if (!best || distance < best.distance) best = { line: lineIndex, index, distance };
    }));
    this.#setCursor(best && best.distance < 60 ? best : null);
  }

  #key(event) {
    const lines = this.data?.lines ?? [];
    if (lines.length === 0) return;
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (event.key === "Enter" && this.cursor) this.onSelect?.(lines[this.cursor.line].driver);
    if (event.key === "Escape") this.#setCursor(null);
    if (!step) return;
    event.preventDefault();
    const chosen = Math.max(0, lines.findIndex((line) => line.driver === this.selected));
    const { line, index } = this.cursor ?? { line: chosen, index: Infinity };
    const nextLine = Math.max(0, Math.min(lines.length - 1, line + step[0]));
    this.#setCursor({ line: nextLine, index: Math.max(0, Math.min(lines[nextLine].points.length - 1, index + step[1])) });
  }

  #setCursor(cursor) {
    this.cursor = cursor;
    this.#showCursor();
  }

  #showCursor() {
    const line = this.cursor && this.data.lines[this.cursor.line];
    const point = line?.points[Math.min(this.cursor.index, line.points.length - 1)];
    this.tip.hidden = !point;
    this.mark?.classList.toggle("shown", Boolean(point));
    this.rule?.classList.toggle("shown", Boolean(point));
    if (!point) return;
    const [x, y] = [this.toX(point[0]), this.toY(point[1])];
    this.mark.setAttribute("cx", x);
    this.mark.setAttribute("cy", y);
    this.mark.setAttribute("fill", line.colour);
    this.rule.setAttribute("x1", x);
    this.rule.setAttribute("x2", x);
    this.tip.textContent = `${line.name} · ${this.data.xText(point[0])} · ${this.yText(point[1])}`;
    this.tip.classList.toggle("leftwards", x > this.container.clientWidth / 2);
    this.tip.style.left = `${x}px`;
    this.tip.style.top = `${Math.max(14, y)}px`;
  }
}

/** Second car of each team: drawn dashed, since both share a colour. */
function dashedCars(cars) {
  const seen = new Set();
  const dashed = new Set();
  for (const car of [...cars].sort((a, b) => a.driver_number - b.driver_number)) {
    if (car.team_colour && seen.has(car.team_colour)) dashed.add(car.driver_number);
    seen.add(car.team_colour);
  }
  return dashed;
}

/** Ticks at round laps; the first lap of the axis has the words given for it. */
function lapTicks(first, last, firstText) {
  const laps = last - first;
  const step = laps > 40 ? 10 : laps > 15 ? 5 : laps > 6 ? 2 : 1;
  const round = Array.from({ length: Math.floor(last / step) + 1 }, (_, index) => index * step).filter((lap) => lap > first + step * 0.6);
  return [{ at: first, text: firstText }, ...round.map((lap) => ({ at: lap, text: String(lap) }))];
}

/** The first lap that lines have a point at, `otherwise` without any. */
function firstLap(lines, otherwise) {
  const first = Math.min(...lines.flatMap((line) => line.points.slice(0, 1).map(([lap]) => lap)));
  return Number.isFinite(first) ? first : otherwise;
}

export class LapChart {
  constructor(container, onSelect) {
    this.chart = new LineChart(container, "Lap chart", { yText: (place) => `P${place}` });
    this.chart.onSelect = onSelect;
  }

  /** `cars`: rows of `timing` in the order of the tower; `places`: see `placesByLap`. A session joined late begins at its first known lap. */
  update(cars, places, spells, lapsCompleted, selected) {
    const dashed = dashedCars(cars);
    const last = Math.max(lapsCompleted, 2);
    const lines = cars.map((car) => ({
      driver: car.driver_number,
      name: car.acronym ?? String(car.driver_number),
      colour: teamColour(car.team_colour),
      isDashed: dashed.has(car.driver_number),
      points: (places.get(car.driver_number) ?? []).flatMap((place, lap) => (place === undefined ? [] : [[lap, place]])),
    }));
    const placesMax = Math.max(cars.length, 2);
    const first = Math.min(firstLap(lines, 0), last - 1);
    this.chart.set({
      lines,
      x: [first, last],
      y: [placesMax + 0.4, 0.6],
      xTicks: lapTicks(first, last, first === 0 ? "Grid" : `Lap ${first}`),
      yTicks: [1, 5, 10, 15, 20].filter((place) => place <= placesMax).map((place) => ({ at: place, text: String(place) })),
      bands: spells.filter((spell) => spell.fromLap !== null).map((spell) => ({ status: spell.status, from: spell.fromLap - 1, to: (spell.toLap ?? last + 1) - 0.5 })),
      xText: (lap) => (lap === 0 ? "start" : `lap ${lap}`),
      summary: `Places of ${cars.length} cars over ${lapsCompleted} laps.`,
    }, selected);
    const laps = Array.from({ length: Math.floor(last / 5) + 1 }, (_, index) => index * 5);
    this.chart.describe("Place of each driver every fifth lap", ["Driver", ...laps.map((lap) => (lap === 0 ? "Start" : `Lap ${lap}`))],
      lines.map((line) => [line.name, ...laps.map((lap) => String((places.get(line.driver) ?? [])[lap] ?? "–"))]));
  }
}

/** The gap to the leader at the end of every lap, the leader on top. */
export class GapChart {
  constructor(container, onSelect) {
    this.empty = Object.assign(document.createElement("p"), { className: "empty", textContent: "No lap is over yet." });
    container.append(this.empty);
    this.chart = new LineChart(container, "Gap to leader", { yText: (gap) => `+${gap.toFixed(3)} s` });
    this.chart.onSelect = onSelect;
  }

  /** `gaps`: see `gapsByLap`; `lapMs`: a usual lap; a gap beyond it leaves the chart, since the car is lapped. */
  update(cars, gaps, spells, lapsCompleted, lapMs, selected) {
    this.empty.hidden = gaps.size > 0;
    if (gaps.size === 0) return;
    const dashed = dashedCars(cars);
    const last = Math.max(lapsCompleted, 2);
    const lines = cars.map((car) => ({
      driver: car.driver_number,
      name: car.acronym ?? String(car.driver_number),
      colour: teamColour(car.team_colour),
      isDashed: dashed.has(car.driver_number),
      points: (gaps.get(car.driver_number) ?? []).flatMap((gap, lap) => (gap === undefined || lap > lapsCompleted ? [] : [[lap, gap / 1_000]])),
    }));
    const widest = Math.max(5, ...lines.flatMap((line) => line.points.map(([, gap]) => gap)));
    const most = Math.min(widest, (lapMs ?? 100_000) / 1_000);
    const first = Math.min(firstLap(lines, 1), last - 1);
    const step = [2, 5, 10, 20, 30].find((size) => most / size <= 6) ?? 60;
    this.chart.set({
      lines,
      x: [first, last],
      y: [most, 0],
      xTicks: lapTicks(first, last, `Lap ${first}`),
      yTicks: Array.from({ length: Math.floor(most / step) + 1 }, (_, index) => ({ at: index * step, text: index === 0 ? "0 s" : `+${index * step}` })),
      bands: spells.filter((spell) => spell.fromLap !== null).map((spell) => ({ status: spell.status, from: spell.fromLap - 1, to: (spell.toLap ?? last + 1) - 0.5 })),
      xText: (lap) => `lap ${lap}`,
      summary: `Gaps of ${cars.length} cars at the end of ${lapsCompleted} laps.`,
    }, selected);
    const laps = Array.from({ length: Math.floor(last / 5) + 1 }, (_, index) => Math.max(1, index * 5));
    this.chart.describe("Gap to the leader at every fifth lap, seconds", ["Driver", ...laps.map((lap) => `Lap ${lap}`)],
      lines.map((line) => [line.name, ...laps.map((lap) => { const gap = gaps.get(line.driver)?.[lap]; return gap === undefined ? "–" : (gap / 1_000).toFixed(3); })]));
  }
}

export class ProbabilityChart {
  constructor(container, onSelect) {
    this.empty = Object.assign(document.createElement("p"), { className: "empty", textContent: "No win probabilities yet." });
    container.append(this.empty);
    this.chart = new LineChart(container, "Win probability", { yText: (share) => percent(share / 100) });
    this.chart.onSelect = onSelect;
  }

  /** `history`: facts of `probability` in order; `cars`: rows of `timing`; `spells`: see `slowSpells`; `startedAt`: ms since 1970. */
  update(history, cars, spells, startedAt, instantOf, selected) {
    this.empty.hidden = history.length > 0;
    if (history.length === 0) return;
    const byNumber = new Map(cars.map((car) => [car.driver_number, car]));
    const newest = [...history.at(-1).cars].sort((a, b) => b.probability - a.probability);
    const chosen = newest.slice(0, CONTENDERS_MAX).map((car) => car.driver_number);
    if (selected !== null && !chosen.includes(selected) && newest.some((car) => car.driver_number === selected)) chosen[CONTENDERS_MAX - 1] = selected;
    const step = Math.max(1, Math.ceil(history.length / LINE_POINTS_MAX));
    const kept = history.filter((_, index) => index % step === 0 || index === history.length - 1);
    const dashed = dashedCars(chosen.map((number) => byNumber.get(number)).filter(Boolean));
    const lines = chosen.map((number) => ({
      driver: number,
      name: byNumber.get(number)?.acronym ?? String(number),
      colour: teamColour(byNumber.get(number)?.team_colour),
      isDashed: dashed.has(number),
      points: kept.flatMap((fact) => {
        const car = fact.cars.find((other) => other.driver_number === number);
        return car ? [[instantOf(fact.known_at), car.probability * 100]] : [];
      }),
    }));
    const from = startedAt ?? instantOf(kept[0].known_at);
    const to = Math.max(instantOf(kept.at(-1).known_at), from + 60_000);
    const every = to - from > 3_600_000 ? 1_800_000 : to - from > 1_200_000 ? 600_000 : 300_000;
    this.chart.set({
      lines,
      x: [from, to],
      y: [0, 100],
      xTicks: Array.from({ length: Math.floor((to - from) / every) + 1 }, (_, index) => ({ at: from + index * every, text: clock(index * every).slice(0, 4) })),
      yTicks: [0, 25, 50, 75, 100].map((share) => ({ at: share, text: `${share}` })),
      bands: spells.map((spell) => ({ status: spell.status, from: spell.from, to: spell.to ?? to })),
      xText: (time) => clock(time - from),
      summary: lines.map((line, index) => `${line.name} ${percent((line.points.at(-1)?.[1] ?? 0) / 100)}${index < lines.length - 1 ? "," : "."}`).join(" "),
    }, selected);
    this.chart.describe("Probability of winning now", ["Driver", "Probability"], newest.map((car) => [byNumber.get(car.driver_number)?.acronym ?? String(car.driver_number), percent(car.probability)]));
  }
}

/** Each driver's sets of tyres as bars over the laps. */
export class StintChart {
  constructor(container, onSelect) {
    this.list = document.createElement("table");
    this.list.className = "stints";
    this.onSelect = onSelect;
    this.said = "";
    container.append(this.list);
  }

  /** `wear`: words for a stint's degradation by `driver/stint`, where it is known. */
  update(cars, stints, lapsCompleted, selected, wear = new Map()) {
    const last = Math.max(1, lapsCompleted);
    const said = JSON.stringify([cars.map((car) => car.driver_number), [...stints.values()].map((row) => [row.driver_number, row.stint_number, row.compound, row.lap_start, row.lap_end, row.tyre_age_at_start]), last, selected, [...wear]]);
    if (said === this.said) return;
    this.said = said;
    const rows = cars.map((car) => {
      const row = document.createElement("tr");
      if (car.driver_number === selected) row.className = "selected";
      const name = Object.assign(document.createElement("th"), { scope: "row", textContent: car.acronym ?? String(car.driver_number) });
      const cell = document.createElement("td");
      const own = [...stints.values()].filter((stint) => stint.driver_number === car.driver_number && stint.lap_start !== null).sort((a, b) => a.stint_number - b.stint_number);
      for (const stint of own) {
        const end = stint.lap_end ?? stint.lap_start;
        const bar = document.createElement("span");
        bar.className = `stint tyre-${stint.compound}`;
        bar.style.left = `${((stint.lap_start - 1) / last) * 100}%`;
        bar.style.width = `${Math.max(0, (Math.min(end, last) - stint.lap_start + 1) / last) * 100}%`;
        bar.dataset.fact = stint.fact_id;
        const slope = wear.get(`${stint.driver_number}/${stint.stint_number}`);
        const laps = end - stint.lap_start + 1;
        const letter = Object.assign(document.createElement("span"), { textContent: `${COMPOUNDS[stint.compound][0]} ${laps}${slope ? ` · ${slope}` : ""}` });
        letter.setAttribute("aria-hidden", "true");
        const used = stint.tyre_age_at_start > 0 ? `, used for ${stint.tyre_age_at_start} laps before` : "";
        const words = `${COMPOUNDS[stint.compound][1]}, laps ${stint.lap_start} to ${end}${used}${slope ? `, ${slope}` : ""}`;
        bar.title = words;
        bar.append(letter, Object.assign(document.createElement("span"), { className: "hidden", textContent: `${words}. ` }));
        cell.append(bar);
      }
      row.append(name, cell);
      row.addEventListener("click", () => this.onSelect(car.driver_number));
      return row;
    });
    const caption = Object.assign(document.createElement("caption"), { className: "hidden", textContent: "Stints of each driver: compound and laps" });
    const axis = document.createElement("tr");
    axis.className = "stint-axis";
    axis.setAttribute("aria-hidden", "true");
    const scale = document.createElement("td");
    for (const tick of lapTicks(0, last, "").slice(1)) {
      const label = Object.assign(document.createElement("span"), { textContent: tick.text });
      label.style.left = `${((tick.at - 0.5) / last) * 100}%`;
      scale.append(label);
    }
    axis.append(document.createElement("th"), scale);
    this.list.replaceChildren(caption, axis, ...rows);
  }
}
