/**
 * The track map: an outline and the cars on it, moved smoothly between samples a little behind the newest.
 * Coordinates are the circuit's, 1/10 m.
 */
import { instant, teamColour } from "./format.js";

/** Cars are drawn this far behind the newest sample: packets hold about a second and arrive up to two late, ms of session time. */
const PLAYOUT_DELAY_MS = 2_500;
/** Further off than this the playhead jumps instead of catching up, ms of session time at speed 1. */
const JUMP_MS = 6_000;
/** Samples kept of one car: half a minute and more. */
const SAMPLES_MAX = 160;
/** Points that stand for the outline until the circuit is known. */
const TRACE_MAX = 6_000;
/** After this long without a location packet, places joined to car data are taken instead, ms. */
const LOCATION_MISSING_MS = 2_000;

/** A car's places by date. */
export class Path {
  dates = [];
  points = [];
  #locationAt = -Infinity;

  /** Adds the samples of one telemetry row. */
  take(row) {
    for (const sample of row.samples) {
      if (sample.x === null || sample.y === null || (sample.x === 0 && sample.y === 0)) continue;
      const date = instant(sample.date);
      // Places in a car data packet are the latest location's, so their dates are up to one sample late.
      if (row.channel === "LOCATION") this.#locationAt = Math.max(this.#locationAt, date);
      else if (date - this.#locationAt < LOCATION_MISSING_MS) continue;
      const last = this.points.at(-1);
      if (date <= (this.dates.at(-1) ?? -Infinity)) continue;
      if (row.channel !== "LOCATION" && last && last[0] === sample.x && last[1] === sample.y) continue;
      this.dates.push(date);
      this.points.push([sample.x, sample.y]);
    }
    const excess = this.dates.length - SAMPLES_MAX;
    if (excess > 0) {
      this.dates.splice(0, excess);
      this.points.splice(0, excess);
    }
  }

  /** Where the car was at a date, on the straight between its samples; before the first and after the last it stands still. */
  at(date) {
    const { dates, points } = this;
    if (dates.length === 0) return null;
    let low = 0;
    let high = dates.length - 1;
    if (date <= dates[0]) return points[0];
    if (date >= dates[high]) return points[high];
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (dates[middle] <= date) low = middle;
      else high = middle;
    }
    const share = (date - dates[low]) / (dates[high] - dates[low]);
    return [points[low][0] + (points[high][0] - points[low][0]) * share, points[low][1] + (points[high][1] - points[low][1]) * share];
  }
}

/** The turn, in radians, at which points fill a rectangle of this width to height best. */
export function bestTurn(points, aspect) {
  let best = { turn: 0, scale: 0 };
  for (let degrees = 0; degrees < 180; degrees += 3) {
    const turn = (degrees * Math.PI) / 180;
    const box = bounds(points, turn);
    const scale = Math.min(aspect / (box.right - box.left || 1), 1 / (box.bottom - box.top || 1));
    if (scale > best.scale) best = { turn, scale };
  }
  return best.turn;
}

function turned([x, y], turn) {
  // The circuit's y axis points up, the screen's down.
  return [x * Math.cos(turn) - y * Math.sin(turn), -(x * Math.sin(turn) + y * Math.cos(turn))];
}

function bounds(points, turn) {
  const box = { left: Infinity, right: -Infinity, top: Infinity, bottom: -Infinity };
  for (const point of points) {
    const [x, y] = turned(point, turn);
    box.left = Math.min(box.left, x);
    box.right = Math.max(box.right, x);
    box.top = Math.min(box.top, y);
    box.bottom = Math.max(box.bottom, y);
  }
  return box;
}

export class TrackMap {
  #canvas;
  #context;
  #paths = new Map();
  #outline = null;
  #trace = [];
  #view = null;
  #playhead = null;
  #newest = null;
  #rate = 1;
  #frozen = null;
  #drawn = [];
  #colours = {};

  /** @param {(driverNumber: number) => void} onSelect Called when a car is clicked. */
  constructor(canvas, onSelect) {
    this.#canvas = canvas;
    this.#context = canvas.getContext("2d");
    new ResizeObserver(() => this.#resize()).observe(canvas);
    canvas.addEventListener("click", (event) => {
      const nearest = this.#drawn
        .map((car) => ({ ...car, distance: Math.hypot(car.x - event.offsetX, car.y - event.offsetY) }))
        .sort((a, b) => a.distance - b.distance)[0];
      if (nearest && nearest.distance < 28) onSelect(nearest.driver);
    });
    this.readColours();
  }

  /** Takes the theme's colours; to be called when it changes. */
  readColours() {
    const style = getComputedStyle(document.documentElement);
    for (const name of ["--track", "--track-edge", "--text", "--panel", "--muted", "--accent"]) this.#colours[name] = style.getPropertyValue(name).trim();
  }

  /** The circuit's outline: an array of `{x, y}`. */
  setOutline(points) {
    if (!points || points.length < 3) return;
    this.#outline = points.map(({ x, y }) => [x, y]);
    this.#view = null;
  }

  /** How fast session time passes; 0 while a replay is paused. */
  setRate(rate) {
    this.#rate = rate;
  }

  take(rows) {
    for (const row of rows) {
      let path = this.#paths.get(row.driver_number);
      if (!path) this.#paths.set(row.driver_number, (path = new Path()));
      path.take(row);
      const date = path.dates.at(-1);
      if (date > (this.#newest ?? 0)) this.#newest = date;
      if (!this.#outline && this.#trace.length < TRACE_MAX && path.points.length) {
        this.#trace.push(path.points.at(-1));
        if (this.#trace.length % 200 === 20) this.#view = null;
      }
    }
  }

  /** Shows cars standing where these rows say, until `null` lets them move again. */
  freeze(rows) {
    if (!rows) {
      this.#frozen = null;
      return;
    }
    this.#frozen = new Map();
    for (const row of rows) {
      if (!this.#frozen.has(row.driver_number)) this.#frozen.set(row.driver_number, new Path());
      this.#frozen.get(row.driver_number).take(row);
    }
  }

  clear() {
    this.#paths.clear();
    this.#outline = this.#view = this.#newest = this.#playhead = null;
    this.#trace = [];
  }

  /**
   * Moves the playhead by the wall time gone, ms, and draws. `cars` are rows of `timing`, in the order of the tower. Answers
   * whether there is a track to draw, as far as the map is to be seen.
   */
  draw(elapsedMs, cars, selected) {
    if (this.#canvas.clientWidth === 0) return true;
    this.#advance(elapsedMs);
    if (!this.#view && !this.#fit()) return false;
    const context = this.#context;
    const ratio = devicePixelRatio;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, this.#canvas.clientWidth, this.#canvas.clientHeight);
    this.#drawTrack(context);
    this.#drawn = [];
    const labels = [];
    for (const row of [...cars].reverse()) {
      const path = (this.#frozen ?? this.#paths).get(row.driver_number);
      const point = path?.at(this.#frozen ? Infinity : this.#playhead);
      if (!point || row.state === "RETIRED") continue;
      const [x, y] = this.#project(point);
      this.#drawn.push({ driver: row.driver_number, x, y });
      const isSelected = row.driver_number === selected;
      const radius = isSelected ? 8 : 5.5;
      context.beginPath();
      context.arc(x, y, radius, 0, 2 * Math.PI);
      context.fillStyle = teamColour(row.team_colour);
      context.fill();
      context.lineWidth = isSelected ? 3 : 1.5;
      context.strokeStyle = isSelected ? this.#colours["--text"] : this.#colours["--panel"];
      context.stroke();
      labels.push({ x, y, text: row.acronym ?? String(row.driver_number), isSelected, rank: isSelected ? 0 : (row.position ?? 99) });
    }
    this.#drawLabels(context, labels);
    return true;
  }

  #drawLabels(context, labels) {
    context.textBaseline = "middle";
    const placed = [];
    // Labels that would cover one of a car further ahead are left out.
    for (const label of labels.sort((a, b) => a.rank - b.rank)) {
      const x = label.x + 10;
      const y = label.y - 10;
      if (placed.some((other) => Math.abs(other.x - x) < 32 && Math.abs(other.y - y) < 13)) continue;
      placed.push({ x, y });
      context.font = label.isSelected ? "700 13px Inter, system-ui, sans-serif" : "600 11px Inter, system-ui, sans-serif";
      context.lineWidth = 3;
      context.lineJoin = "round";
      context.strokeStyle = this.#colours["--panel"];
      context.strokeText(label.text, x, y);
      context.fillStyle = this.#colours["--text"];
      context.fillText(label.text, x, y);
    }
  }

  #drawTrack(context) {
    if (!this.#outline) {
      context.fillStyle = this.#colours["--track"];
      for (const point of this.#trace) {
        const [x, y] = this.#project(point);
        context.fillRect(x - 1, y - 1, 2, 2);
      }
      return;
    }
    context.beginPath();
    this.#outline.forEach((point, index) => context[index === 0 ? "moveTo" : "lineTo"](...this.#project(point)));
    context.closePath();
    context.lineJoin = "round";
    context.strokeStyle = this.#colours["--track-edge"];
    context.lineWidth = 11;
    context.stroke();
    context.strokeStyle = this.#colours["--track"];
    context.lineWidth = 7;
    context.stroke();
    this.#drawStart(context);
  }

  /** The outline begins at the start line. */
  #drawStart(context) {
    const [x, y] = this.#project(this.#outline[0]);
    const [nextX, nextY] = this.#project(this.#outline[1]);
    const length = Math.hypot(nextX - x, nextY - y) || 1;
    const [acrossX, acrossY] = [(-(nextY - y) / length) * 9, ((nextX - x) / length) * 9];
    context.beginPath();
    context.moveTo(x - acrossX, y - acrossY);
    context.lineTo(x + acrossX, y + acrossY);
    context.strokeStyle = this.#colours["--text"];
    context.lineWidth = 2.5;
    context.stroke();
  }

  #advance(elapsedMs) {
    if (this.#newest === null) return;
    // At sixty times the speed a commit spans seconds of the session, so the delay grows with the speed.
    const target = this.#newest - PLAYOUT_DELAY_MS - this.#rate * 150;
    const behind = this.#playhead === null ? Infinity : target - this.#playhead;
    if (Math.abs(behind) > JUMP_MS * Math.max(1, this.#rate / 2)) {
      this.#playhead = target;
      return;
    }
    // A little faster or slower than the session closes the distance without a visible step.
    const correction = Math.max(-0.3, Math.min(0.3, behind / (2_000 * Math.max(1, this.#rate))));
    this.#playhead = Math.min(this.#playhead + elapsedMs * this.#rate * (1 + correction), this.#newest);
  }

  #fit() {
    const points = this.#outline ?? this.#trace;
    if (points.length < 20) return false;
    const [width, height, margin] = [this.#canvas.clientWidth, this.#canvas.clientHeight, 30];
    const turn = bestTurn(points, (width - 2 * margin) / (height - 2 * margin));
    const box = bounds(points, turn);
    const scale = Math.min((width - 2 * margin) / (box.right - box.left || 1), (height - 2 * margin) / (box.bottom - box.top || 1));
    this.#view = {
      turn,
      scale,
      x: width / 2 - (scale * (box.left + box.right)) / 2,
      y: height / 2 - (scale * (box.top + box.bottom)) / 2,
    };
    return true;
  }

  #project(point) {
    const [x, y] = turned(point, this.#view.turn);
    return [x * this.#view.scale + this.#view.x, y * this.#view.scale + this.#view.y];
  }

  #resize() {
    this.#canvas.width = Math.round(this.#canvas.clientWidth * devicePixelRatio);
    this.#canvas.height = Math.round(this.#canvas.clientHeight * devicePixelRatio);
    this.#view = null;
  }
}
