/** The panel of the selected driver: telemetry now, the last laps and the gap to the leader. */
import { COMPOUNDS, gap, lapTime, teamColour, UNKNOWN } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";
/** Laps in the sparkline of lap times. */
const LAPS_MAX = 20;

const TEMPLATE = `
<h2 id="driver-title">Driver</h2>
<p class="empty" data-part="empty">Choose a car in the tower or on the track.</p>
<div class="driver-body" data-part="body" hidden>
  <div class="driver-head"><span class="team-bar" data-part="bar"></span><p><strong data-part="name"></strong><span data-part="team"></span></p><span class="driver-place" data-part="place"></span></div>
  <dl class="gauges">
    <div><dt>Speed</dt><dd><span data-part="speed"></span> <small>km/h</small></dd></div>
    <div><dt>Gear</dt><dd data-part="gear"></dd></div>
    <div><dt>Throttle</dt><dd><span class="meter meter-throttle"><span data-part="throttle-bar"></span></span><span class="hidden" data-part="throttle"></span></dd></div>
    <div><dt>Brake</dt><dd><span class="meter meter-brake"><span data-part="brake-bar"></span></span><span class="hidden" data-part="brake"></span></dd></div>
    <div><dt>Tyre</dt><dd data-part="tyre"></dd></div>
    <div><dt>Best</dt><dd data-part="best"></dd></div>
  </dl>
  <div class="sparks">
    <figure><figcaption>Last laps <span data-part="last"></span></figcaption><svg data-part="laps" role="img"></svg></figure>
    <figure><figcaption>Gap to leader <span data-part="gap"></span></figcaption><svg data-part="gaps" role="img"></svg></figure>
  </div>
</div>`;

export class DriverPanel {
  #parts = {};
  #said = {};

  constructor(container) {
    container.innerHTML = TEMPLATE;
    for (const node of container.querySelectorAll("[data-part]")) this.#parts[node.dataset.part] = node;
  }

  /**
   * `row`: the driver's row of `timing`; `sample`: the newest telemetry sample; `laps`: rows of `laps` of this driver; `gaps`: its gap to the
   * leader at the end of each lap, see `gapsByLap`.
   */
  update(row, driver, sample, laps, gaps = []) {
    this.#parts.empty.hidden = Boolean(row);
    this.#parts.body.hidden = !row;
    if (!row) return;
    const write = (part, text) => {
      if (this.#said[part] !== text) this.#parts[part].textContent = this.#said[part] = text;
    };
    this.#parts.bar.style.backgroundColor = teamColour(row.team_colour);
    write("name", driver?.full_name ?? row.acronym ?? String(row.driver_number));
    write("team", `${driver?.team_name ?? ""} · ${row.driver_number}`);
    write("place", row.state === "RETIRED" ? "Retired" : row.position ? `P${row.position}` : "");
    write("speed", String(sample?.speed ?? UNKNOWN));
    write("gear", sample?.gear === 0 ? "N" : String(sample?.gear ?? UNKNOWN));
    write("throttle", sample?.throttle == null ? "unknown" : `${sample.throttle} percent`);
    write("brake", sample?.brake == null ? "unknown" : sample.brake ? "on" : "off");
    this.#parts["throttle-bar"].style.width = `${sample?.throttle ?? 0}%`;
    this.#parts["brake-bar"].style.width = sample?.brake ? "100%" : "0%";
    write("tyre", row.compound ? `${COMPOUNDS[row.compound][1]} · ${row.tyre_age ?? UNKNOWN}` : UNKNOWN);
    write("best", lapTime(row.best_lap_ms));
    write("last", lapTime(row.last_lap_ms));
    write("gap", row.position === 1 ? "leads" : gap(row.gap_ms, row.laps_behind));
    const times = laps.filter((lap) => lap.lap_ms !== null).sort((a, b) => a.lap_number - b.lap_number).slice(-LAPS_MAX).map((lap) => [lap.lap_number, lap.lap_ms]);
    this.#spark("laps", times, times.length ? `Last ${times.length} laps, best ${lapTime(Math.min(...times.map(([, ms]) => ms)))}` : "No laps yet");
    const trend = gaps.flatMap((ms, lap) => (ms === undefined ? [] : [[lap, ms]]));
    this.#spark("gaps", trend, trend.length ? `Gap to the leader from ${gap(trend[0][1])} to ${gap(trend.at(-1)[1])}` : "No gaps yet");
  }

  #spark(part, points, label) {
    const key = `${points.length}/${points.at(-1)?.join()}/${points[0]?.join()}`;
    if (this.#said[`${part}-spark`] === key) return;
    this.#said[`${part}-spark`] = key;
    const node = this.#parts[part];
    node.setAttribute("viewBox", "0 0 200 44");
    node.setAttribute("preserveAspectRatio", "none");
    node.setAttribute("aria-label", label);
    if (points.length < 2) {
      node.replaceChildren();
      return;
    }
    // A pit stop or a safety car lap would flatten the rest: the scale ends at the value nine of ten are below.
    const values = points.map(([, value]) => value).sort((a, b) => a - b);
    const [least, most] = [values[0], values[Math.floor((values.length - 1) * 0.9)]];
    const [from, to] = [points[0][0], points.at(-1)[0]];
    const line = document.createElementNS(SVG, "polyline");
    line.setAttribute("class", "spark");
    line.setAttribute("points", points.map(([x, value]) => {
      const share = Math.min(1, (value - least) / (most - least || 1));
      return `${(((x - from) / (to - from || 1)) * 196 + 2).toFixed(1)},${(40 - share * 36).toFixed(1)}`;
    }).join(" "));
    node.replaceChildren(line);
  }
}
