/** Wires the page together: what comes in goes to the store and marks what must be drawn; everything is drawn once an animation frame. */
import { GapChart, LapChart, ProbabilityChart, StintChart } from "./charts.js";
import { ConnectionState, PitWallClient, PitWallRest } from "./client.js";
import { Details } from "./details.js";
import { DriverPanel } from "./driver.js";
import { clock, instant, TRACK_STATUS, UNKNOWN } from "./format.js";
import { TrackMap } from "./map.js";
import { eventsPanel, sentence, SPOKEN_PRIORITY_MAX } from "./panels/events.js";
import { Evidence } from "./panels/evidence.js";
import { miniSectors, newestLaps } from "./panels/mini_sectors.js";
import { seconds } from "./panels/names.js";
import { provenance, weatherChips } from "./panels/session.js";
import { TablePanel } from "./panels/table.js";
import { gapsByLap, isJoinedLate, isQualifying, isRace, placesByLap, placesThatGoOn, qualifyingBests, slowSpells, Store } from "./store.js";
import { showTab, wireTabs } from "./tabs.js";
import { inOrder, Tower } from "./tower.js";

/** Channels shown; those that the session does not have are left out. */
const CHANNELS = [
  "timing", "drivers", "track_status", "race_clock", "circuit", "telemetry", "positions", "laps", "stints", "probability", "weather", "race_control",
  "race_events", "pit_stops", "pit_passes", "overtakes", "battles", "undercuts", "classification", "championship", "completeness", "starting_grid",
  "team_radio", "degradation", "timing_line", "line_crossings", "estimated_laps", "estimated_order", "position_check",
];
/** Channels whose past is fetched once, for the charts. */
const HISTORIES = ["positions", "race_clock", "track_status", "probability"];
/** Tables are written at most this often, ms. */
const TABLES_EVERY_MS = 250;
/** How often the session's state is asked for, ms. */
const SESSION_EVERY_MS = 3_000;
/** Charts are drawn at most this often, and the panel of the driver, ms. */
const CHARTS_EVERY_MS = 500;
const PANEL_EVERY_MS = 100;
/** A message that skipped frames shows as "catching up" for this long, ms. */
const CATCH_UP_SHOWN_MS = 3_000;
/** A moving scrubber asks for the past once it rests this long, ms. */
const SCRUB_REST_MS = 150;

const byId = (id) => document.getElementById(id);
const store = new Store();
const rest = new PitWallRest();
const page = {
  /** The `SESSION` shown, or null. */
  session: null,
  /** Ends each subscription. */
  ends: [],
  selected: null,
  /** `{at, store, position}` while looking back, `at` being the scrubber's value; else null. */
  past: null,
  /** Events up to this priority are listed. */
  priorityMax: 5,
  /** Whether the reader has chosen a chart, so that none is chosen for them. */
  hasChosenChart: false,
  catchUpUntil: 0,
  dirty: new Set(CHANNELS),
  chartsAt: 0,
  panelAt: 0,
  tablesAt: 0,
  drawnAt: null,
  weatherSaid: null,
  chart: "laps",
};

const tower = new Tower(byId("tower-rows"), select);
const map = new TrackMap(byId("map"), select);
const panel = new DriverPanel(byId("driver"));
const charts = {
  laps: new LapChart(byId("chart-laps"), select),
  probability: new ProbabilityChart(byId("chart-probability"), select),
  stints: new StintChart(byId("chart-stints"), select),
  gaps: new GapChart(byId("chart-gaps"), select),
};
const evidence = new Evidence(byId("evidence"), rest);
const explain = (fact) => evidence.show(page.session.session, fact);
const events = new TablePanel(byId("events"), eventsPanel(() => page.priorityMax), explain);
const segments = new TablePanel(byId("chart-mini-sectors"), miniSectors, explain);
const details = new Details(byId("details-tabs"), byId("details"), explain, () => (page.tablesAt = 0));

const address = new URL("/ws", location.href);
address.protocol = address.protocol.replace("http", "ws");
const client = new PitWallClient({ url: address.href, onState: showConnection, onError: (problem) => console.warn("PitWall:", problem.detail) });

/** The session named by the page's address, `?session=9920`, or the one that received input last. */
const wanted = new URLSearchParams(location.search).get("session") ?? "latest";

function select(driver) {
  page.selected = page.selected === driver ? null : driver;
  tower.select(page.selected);
  page.chartsAt = page.panelAt = 0;
}


/** What is shown: now, or the moment looked back at. */
const shown = () => page.past?.store ?? store;

async function refreshSession() {
  // The server has said that it does not know the session: asking again would change nothing.
  if (client.state === ConnectionState.GONE) return;
  try {
    const session = await rest.session(page.session?.session ?? wanted);
    showNotice(null);
    const isAnother = page.session === null || page.session.session !== session.session || page.session.epoch !== session.epoch;
    page.session = session;
    if (isAnother) enter(session);
    showReplay(session.replay);
  } catch (problem) {
    if (problem.status === 404) showNotice(wanted === "latest" ? "No session yet. Start one with pitwall demo, or wait for the first samples." : `Session ${wanted} is not known here.`);
    else if (problem.status === 503) showNotice("The server is restoring its sessions. This page goes on by itself.");
    else if (problem.status) showNotice(`The server refused: ${problem.message}`);
    else if (client.state !== ConnectionState.LIVE) showNotice("The server cannot be reached. This page goes on by itself when it is back.");
  }
}

function enter(session) {
  for (const end of page.ends) end();
  store.clear();
  map.clear();
  store.describe(session.channels);
  if (page.past) backToLive();
  byId("session").textContent = `Session ${session.session}`;
  document.title = `PitWall · ${session.session}`;
  const available = new Set(session.channels.map((channel) => channel.channel));
  page.ends = CHANNELS.filter((channel) => available.has(channel)).map((channel) => client.subscribe(channel, session.session, {
    onSnapshot: (message) => take(channel, message, true),
    onFrame: (message) => take(channel, message, false),
  }));
  client.connect();
  const { session: number, epoch } = session;
  for (const channel of HISTORIES.filter((name) => available.has(name))) {
    rest.history(number, channel).then((rows) => {
      if (page.session.session !== number || page.session.epoch !== epoch) return;
      store.extend(channel, rows);
      page.dirty.add(channel);
      page.chartsAt = 0;
    }).catch((problem) => console.warn(`PitWall: the past of ${channel} is missing from the charts: ${problem.message}`));
  }
}

function take(channel, message, isSnapshot) {
  // A new epoch on the wire is a new derivation of everything: the session is entered again.
  if (message.epoch !== page.session.epoch) {
    refreshSession();
    return;
  }
  store.take(channel, message, isSnapshot);
  if (message.isCatchUp) page.catchUpUntil = performance.now() + CATCH_UP_SHOWN_MS;
  if (channel === "telemetry") map.take(message.rows);
  if (channel === "circuit") map.setOutline(store.row("circuit")?.points);
  if (channel === "race_events" && !isSnapshot) tell(message.rows);
  page.dirty.add(channel);
}


function draw(now) {
  requestAnimationFrame(draw);
  const elapsed = page.drawnAt === null ? 0 : Math.min(250, now - page.drawnAt);
  page.drawnAt = now;
  const dirty = page.dirty;
  const rows = [...shown().rows("timing").values()];
  const ordered = inOrder(rows);
  if (["timing", "drivers", "positions", "laps", "classification"].some((channel) => dirty.has(channel))) drawTower(ordered);
  if (["track_status", "race_clock", "weather", "timing", "completeness"].some((channel) => dirty.has(channel))) drawStatus();
  drawClock();
  byId("map-empty").hidden = map.draw(elapsed, ordered, page.selected);
  if (now - page.panelAt > PANEL_EVERY_MS) {
    page.panelAt = now;
    drawPanel(rows);
  }
  if (now - page.tablesAt > TABLES_EVERY_MS) {
    page.tablesAt = now;
    events.update(shown());
    details.update(shown());
    if (page.chart === "mini-sectors") segments.update(shown());
  }
  if (now - page.chartsAt > CHARTS_EVERY_MS) {
    page.chartsAt = now;
    drawCharts(ordered);
    showConnection(client.state);
    byId("map").setAttribute("aria-label", `Track map. ${ordered.slice(0, 3).map((row) => row.acronym ?? row.driver_number).join(", ")} lead.`);
  }
  dirty.clear();
}

function drawTower(ordered) {
  byId("tower-empty").hidden = ordered.length > 0;
  const view = shown();
  const startPlaces = new Map();
  const hasQualifying = isQualifying(view);
  if (!hasQualifying && !isJoinedLate(view)) for (const row of view.history.positions) if (!startPlaces.has(row.driver_number)) startPlaces.set(row.driver_number, row.position);
  const classification = hasQualifying ? [...view.rows("classification").values()] : [];
  document.body.dataset.kind = hasQualifying ? "qualifying" : "race";
  tower.render(ordered, {
    drivers: view.rows("drivers"),
    startPlaces,
    laps: newestLaps(view.rows("laps").values()),
    qualifying: qualifyingBests(classification),
    eliminated: new Set(classification.filter((row) => row.status === "ELIMINATED").map((row) => row.driver_number)),
    disputed: new Set([...view.rows("positions").values()].filter((row) => row.disputed).map((row) => row.driver_number)),
    lastThatGoesOn: hasQualifying ? placesThatGoOn(view.row("track_status").qualifying_phase, ordered.length) : null,
    isStill: page.past !== null,
  });
  const { position } = view.channel("timing");
  if (position) {
    document.documentElement.dataset.seq = String(position.seq);
    document.documentElement.dataset.epoch = String(position.epoch);
  }
}

function drawStatus() {
  const view = shown();
  const row = view.row("track_status");
  const status = row?.session === "FINISHED" ? "FINISHED" : (row?.status ?? "NONE");
  byId("flag").dataset.status = status;
  byId("flag-name").textContent = TRACK_STATUS[status];
  byId("flag-more").textContent = row?.is_ending ? "in this lap" : "";
  const laps = view.row("race_clock")?.laps_completed ?? 0;
  const hasQualifying = isQualifying(view);
  byId("lap-label").textContent = hasQualifying ? "Segment" : "Lap";
  byId("clock-label").textContent = hasQualifying ? "Time" : "Race time";
  byId("lap").textContent = hasQualifying ? `Q${row.qualifying_phase}` : String(status !== "FINISHED" && !page.past ? laps + 1 : laps || UNKNOWN);
  drawWeather(view);
  drawProvenance(view);
  const scrubber = byId("scrubber");
  const most = scrubberMost();
  scrubber.disabled = most < 1;
  scrubber.max = String(Math.max(1, most));
  if (!page.past && document.activeElement !== scrubber) scrubber.value = scrubber.max;
}

function drawProvenance(view) {
  const said = provenance(view.rows("completeness").values(), page.session?.known_at_quality);
  byId("provenance").hidden = said === null;
  if (said === null || byId("provenance-text").textContent === said.text) return;
  byId("provenance-title").textContent = said.title;
  byId("provenance-text").textContent = said.text;
}

function drawWeather(view) {
  const chips = weatherChips(view.row("weather")).filter((chip) => ["Air", "Track", "Rain"].includes(chip.label));
  const said = JSON.stringify(chips);
  if (page.weatherSaid === said) return;
  page.weatherSaid = said;
  byId("weather").replaceChildren(...chips.map((chip) => {
    const item = document.createElement("div");
    item.append(Object.assign(document.createElement("dt"), { textContent: chip.label }), Object.assign(document.createElement("dd"), { textContent: chip.text }));
    return item;
  }));
}

/** Race and other sessions are looked back at differently: by the leader's laps, and by minutes since the start. */
const looksBackByLap = () => isRace(store);

function scrubberMost() {
  const clockRow = store.row("race_clock");
  if (looksBackByLap()) return clockRow?.laps_completed ?? 0;
  const startedAt = instant(clockRow?.started_at);
  return startedAt === null || store.knownAt === null ? 0 : Math.floor((store.knownAt - startedAt) / 60_000);
}

const momentOf = (at) => (looksBackByLap() ? `lap:${at}` : `+${clock(at * 60_000)}`);
const wordsOf = (at) => (looksBackByLap() ? `lap ${at}` : clock(at * 60_000).slice(0, 4));

function drawClock() {
  const startedAt = instant(shown().row("race_clock")?.started_at);
  const knownAt = page.past ? page.past.position.knownAt : store.knownAt;
  const text = clock(startedAt === null || knownAt === null ? null : knownAt - startedAt);
  if (byId("clock").textContent !== text) byId("clock").textContent = text;
}

function drawPanel(rows) {
  const view = shown();
  const row = rows.find((other) => other.driver_number === page.selected);
  const sample = view.rows("telemetry").get(`${page.selected}/CAR_DATA`)?.samples.at(-1);
  const laps = row ? [...view.rows("laps").values()].filter((lap) => lap.driver_number === row.driver_number) : [];
  const gaps = row && isRace(view) ? gapsShown(view).get(row.driver_number) : [];
  panel.update(row, view.rows("drivers").get(page.selected), sample, laps, gaps);
}

function drawCharts(ordered) {
  const view = shown();
  const spells = slowSpells(view.history.track_status);
  const laps = view.row("race_clock")?.laps_completed ?? 0;
  const hasQualifying = isQualifying(view);
  for (const id of ["laps", "gaps", "probability"]) showTab(byId("chart-tabs"), `tab-${id}`, !hasQualifying, openChart);
  showTab(byId("chart-tabs"), "tab-mini-sectors", hasQualifying || newestLaps(view.rows("laps").values()).size > 0, openChart);
  if (hasQualifying && !page.hasChosenChart && page.chart !== "mini-sectors") openChart("tab-mini-sectors");
  if (page.chart === "laps") charts.laps.update(ordered, placesShown(view), spells, laps, page.selected);
  if (page.chart === "gaps") {
    const leaderMs = ordered.map((row) => row.best_lap_ms).find((ms) => ms !== null) ?? null;
    charts.gaps.update(ordered, gapsShown(view), spells, laps, leaderMs, page.selected);
  }
  if (page.chart === "probability") {
    charts.probability.update(view.history.probability, ordered, spells, instant(view.row("race_clock")?.started_at), instant, page.selected);
  }
  if (page.chart === "stints") charts.stints.update(ordered, view.rows("stints"), Math.max(laps, ...ordered.map((row) => (row.lap_number ?? 1) - 1)), page.selected, wear(view));
}

/** Places by lap; of a session joined late without those at the start, which nobody saw. */
function placesShown(view) {
  const places = placesByLap(view.rows("laps").values(), view.history.positions);
  if (isJoinedLate(view)) for (const list of places.values()) list[0] = undefined;
  return places;
}

/** Gaps by lap; of a session joined late without the lap that was joined: whoever ended it before is not known. */
function gapsShown(view) {
  const laps = [...view.rows("laps").values()];
  const joined = isJoinedLate(view) ? Math.min(...laps.map((lap) => lap.lap_number)) : 0;
  return gapsByLap(laps.filter((lap) => lap.lap_number > joined));
}

/** Degradation of each stint in words, `+0.05 s/lap`, where enough laps tell of it. */
function wear(view) {
  return new Map([...view.rows("degradation")].map(([key, row]) => [key, `${seconds(row.degradation_ms, true, 2)}/lap`]));
}

/** Says new events aloud, where they matter enough. */
function tell(rows) {
  const spoken = rows.filter((row) => row.priority <= SPOKEN_PRIORITY_MAX).map((row) => sentence(store, row));
  if (spoken.length) byId("announcer").textContent = `${spoken.join(". ")}.`;
}


function showConnection(state) {
  const isBehind = state === ConnectionState.LIVE && performance.now() < page.catchUpUntil;
  const words = { closed: "Not connected", connecting: "Connecting", live: isReplay() ? "Replay" : "Live", reconnecting: "Reconnecting", offline: "Offline", gone: "Session gone" };
  const node = byId("connection");
  const text = isBehind ? "Catching up" : words[state];
  node.dataset.state = isBehind ? "behind" : state;
  if (byId("connection-text").textContent !== text) byId("connection-text").textContent = text;
  if (state === ConnectionState.GONE) showNotice("The server no longer has this session. Try again to read the page anew.");
}

function showNotice(text) {
  byId("notice").hidden = text === null;
  if (text !== null && byId("notice-text").textContent !== text) byId("notice-text").textContent = text;
}

const isReplay = () => Boolean(page.session?.replay);

function showReplay(replay) {
  byId("replay-controls").hidden = replay === null;
  map.setRate(replay === null ? 1 : replay.is_paused ? 0 : replay.speed);
  if (replay === null) return;
  byId("pause").setAttribute("aria-label", replay.is_paused ? "Play the replay" : "Pause the replay");
  byId("pause").dataset.paused = String(replay.is_paused);
  for (const button of byId("speeds").children) button.setAttribute("aria-pressed", String(Number(button.dataset.speed) === replay.speed));
  byId("progress").value = replay.samples ? replay.ingested / replay.samples : 0;
}

async function steer(change) {
  try {
    page.session.replay = await rest.steer(page.session.session, change);
    showReplay(page.session.replay);
  } catch (problem) {
    showNotice(problem.status ? `The replay was not changed: ${problem.message}` : "The replay was not changed: the server cannot be reached.");
  }
}

let looking = null;

/** Everything that the page shows, as it was at a moment: one place in the ledger, each channel read there. */
async function lookBack(at) {
  looking?.abort();
  looking = new AbortController();
  const { signal } = looking;
  byId("scrubber-value").textContent = wordsOf(at);
  try {
    const { session, epoch, channels } = page.session;
    const available = new Set(channels.map((channel) => channel.channel));
    const past = new Store(channels);
    const timing = await patiently(() => rest.channel(session, "timing", { as_of: momentOf(at) }, signal), signal);
    past.take("timing", timing, true);
    for (const channel of CHANNELS.filter((name) => name !== "timing" && available.has(name))) {
      past.take(channel, await patiently(() => rest.channel(session, channel, { as_of: `seq:${timing.seq}`, epoch }, signal), signal), true);
    }
    if (signal.aborted) return;
    const knownAt = instant(timing.known_at);
    past.history = store.historyUntil(knownAt);
    page.past = { at, store: past, position: { epoch: timing.epoch, seq: timing.seq, knownAt } };
    map.freeze([...past.rows("telemetry").values()]);
    byId("past-text").textContent = looksBackByLap() ? `Looking at the end of lap ${at}.` : `Looking at ${wordsOf(at)} after the start.`;
    byId("past").hidden = false;
    document.body.classList.add("looking-back");
    redrawAll();
  } catch (problem) {
    if (problem.name !== "AbortError") showNotice(`The moment cannot be shown: ${problem.message}`);
  }
}

/** Asks again as long as the server is busy with other looks at the past. */
async function patiently(ask, signal) {
  for (;;) {
    try {
      return await ask();
    } catch (problem) {
      if (!problem.retryAfterMs || signal.aborted) throw problem;
      await new Promise((resume) => setTimeout(resume, problem.retryAfterMs));
    }
  }
}

function backToLive() {
  looking?.abort();
  page.past = null;
  map.freeze(null);
  byId("past").hidden = true;
  document.body.classList.remove("looking-back");
  byId("scrubber-value").textContent = "live";
  byId("scrubber").value = byId("scrubber").max;
  redrawAll();
}

function redrawAll() {
  for (const channel of CHANNELS) page.dirty.add(channel);
  page.chartsAt = page.panelAt = page.tablesAt = 0;
}


let resting = null;
byId("scrubber").addEventListener("input", (event) => {
  clearTimeout(resting);
  const at = Number(event.target.value);
  byId("scrubber-value").textContent = wordsOf(at);
  resting = setTimeout(() => lookBack(at), SCRUB_REST_MS);
});
byId("past-live").addEventListener("click", backToLive);
byId("notice-retry").addEventListener("click", () => (client.state === ConnectionState.GONE ? location.reload() : refreshSession()));
byId("pause").addEventListener("click", () => steer({ is_paused: !page.session.replay.is_paused }));
byId("speeds").addEventListener("click", (event) => event.target.dataset.speed && steer({ speed: Number(event.target.dataset.speed) }));

document.addEventListener("keydown", (event) => {
  const isTyping = event.target.closest("button, input, a, [role=tab]");
  if (event.key === " " && isReplay() && !isTyping) {
    event.preventDefault();
    steer({ is_paused: !page.session.replay.is_paused });
  }
  if (event.key === "Escape" && page.past) backToLive();
});

const openChart = wireTabs(byId("chart-tabs"), (id) => {
  page.chart = id.slice("tab-".length);
  page.chartsAt = page.tablesAt = 0;
});
byId("chart-tabs").addEventListener("pointerdown", () => (page.hasChosenChart = true));
byId("chart-tabs").addEventListener("keydown", () => (page.hasChosenChart = true));

byId("priorities").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  page.priorityMax = Number(button.dataset.priority);
  for (const other of byId("priorities").children) other.setAttribute("aria-pressed", String(other === button));
  page.tablesAt = 0;
});

byId("views").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  document.body.dataset.view = button.dataset.view;
  for (const other of byId("views").children) other.toggleAttribute("aria-current", other === button);
  page.chartsAt = page.tablesAt = 0;
});

const prefersLight = matchMedia("(prefers-color-scheme: light)");
function applyTheme() {
  const theme = readTheme() ?? (prefersLight.matches ? "light" : "dark");
  document.documentElement.dataset.theme = theme;
  byId("theme").setAttribute("aria-label", `Switch to the ${theme === "dark" ? "light" : "dark"} theme`);
  map.readColours();
}
function readTheme() {
  // Storage may be forbidden; then the choice lasts as long as the page.
  try {
    return localStorage.getItem("pitwall.theme") ?? page.theme;
  } catch {
    return page.theme;
  }
}
byId("theme").addEventListener("click", () => {
  page.theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  try {
    localStorage.setItem("pitwall.theme", page.theme);
  } catch {
    // As above.
  }
  applyTheme();
});
prefersLight.addEventListener("change", applyTheme);

applyTheme();
refreshSession();
setInterval(refreshSession, SESSION_EVERY_MS);
requestAnimationFrame(draw);
