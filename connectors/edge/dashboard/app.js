/** Wires the page together: what comes in goes to the store and marks what must be drawn; everything is drawn once an animation frame. */
import { LapChart, ProbabilityChart, StintChart } from "./charts.js";
import { ConnectionState, PitWallClient, PitWallRest } from "./client.js";
import { DriverPanel } from "./driver.js";
import { EventFinder, EVENTS_MAX } from "./events.js";
import { clock, instant, TRACK_STATUS } from "./format.js";
import { TrackMap } from "./map.js";
import { placesByLap, slowSpells, Store } from "./store.js";
import { inOrder, Tower } from "./tower.js";

/** Channels shown; those that the session does not have are left out. */
const CHANNELS = ["timing", "drivers", "track_status", "race_clock", "circuit", "telemetry", "positions", "laps", "stints", "probability"];
/** Channels whose past is fetched once, for the charts. */
const HISTORIES = ["positions", "race_clock", "track_status", "probability"];
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
const events = { finder: new EventFinder(), list: byId("events") };
const page = {
  /** The `SESSION` shown, or null. */
  session: null,
  /** Ends each subscription. */
  ends: [],
  selected: null,
  /** `{lap, timing, trackStatus, position}` while looking back, else null. */
  past: null,
  catchUpUntil: 0,
  dirty: new Set(CHANNELS),
  chartsAt: 0,
  panelAt: 0,
  drawnAt: null,
  chart: "laps",
};

const tower = new Tower(byId("tower-rows"), select);
const map = new TrackMap(byId("map"), select);
const panel = new DriverPanel(byId("driver"));
const charts = {
  laps: new LapChart(byId("chart-laps"), select),
  probability: new ProbabilityChart(byId("chart-probability"), select),
  stints: new StintChart(byId("chart-stints"), select),
};

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


async function refreshSession() {
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
  panel.clear();
  events.finder = new EventFinder();
  events.list.replaceChildren();
  page.past = null;
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
  if (channel === "timing") {
    panel.takeGaps(store.rows("timing").values(), instant(message.known_at));
    tell(events.finder.timing([...store.rows("timing").values()]));
  }
  if (channel === "track_status" && store.row("track_status")) tell(events.finder.status(store.row("track_status")));
  page.dirty.add(channel);
}


function draw(now) {
  requestAnimationFrame(draw);
  const elapsed = page.drawnAt === null ? 0 : Math.min(250, now - page.drawnAt);
  page.drawnAt = now;
  const dirty = page.dirty;
  const rows = page.past ? page.past.timing : [...store.rows("timing").values()];
  const ordered = inOrder(rows);
  if (["timing", "drivers", "positions"].some((channel) => dirty.has(channel))) drawTower(ordered);
  if (["track_status", "race_clock"].some((channel) => dirty.has(channel))) drawStatus();
  drawClock();
  map.draw(elapsed, ordered, page.selected);
  if (now - page.panelAt > PANEL_EVERY_MS) {
    page.panelAt = now;
    drawPanel(rows);
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
  const startPlaces = new Map();
  for (const row of store.history.positions) if (!startPlaces.has(row.driver_number)) startPlaces.set(row.driver_number, row.position);
  tower.render(ordered, store.rows("drivers"), startPlaces);
  const position = page.past?.position ?? store.channel("timing").position;
  if (position) {
    document.documentElement.dataset.seq = String(position.seq);
    document.documentElement.dataset.epoch = String(position.epoch);
  }
}

function drawStatus() {
  const row = page.past ? page.past.trackStatus : store.row("track_status");
  const status = row?.session === "FINISHED" ? "FINISHED" : (row?.status ?? "NONE");
  byId("flag").dataset.status = status;
  byId("flag-name").textContent = TRACK_STATUS[status];
  byId("flag-more").textContent = row?.is_ending ? "in this lap" : "";
  const laps = store.row("race_clock")?.laps_completed ?? 0;
  byId("lap").textContent = page.past ? String(page.past.lap) : status === "FINISHED" ? String(laps) : String(laps + 1);
  const scrubber = byId("scrubber");
  scrubber.disabled = laps < 1;
  scrubber.max = String(Math.max(1, laps));
  if (!page.past && document.activeElement !== scrubber) scrubber.value = scrubber.max;
}

function drawClock() {
  const startedAt = instant(store.row("race_clock")?.started_at);
  const knownAt = page.past ? page.past.position.knownAt : store.knownAt;
  const text = clock(startedAt === null || knownAt === null ? null : knownAt - startedAt);
  if (byId("clock").textContent !== text) byId("clock").textContent = text;
}

function drawPanel(rows) {
  const row = rows.find((other) => other.driver_number === page.selected);
  const sample = page.past ? null : store.rows("telemetry").get(page.selected)?.samples.at(-1);
  const laps = row ? [...store.rows("laps").values()].filter((lap) => lap.driver_number === row.driver_number && (!page.past || lap.lap_number <= page.past.lap)) : [];
  panel.update(row, store.rows("drivers").get(page.selected), sample, laps);
}

function drawCharts(ordered) {
  const spells = slowSpells(store.history.track_status);
  const laps = store.row("race_clock")?.laps_completed ?? 0;
  if (page.chart === "laps") charts.laps.update(ordered, placesByLap(store.rows("laps").values(), store.history.positions), spells, laps, page.selected);
  if (page.chart === "probability") {
    charts.probability.update(store.history.probability, ordered, spells, instant(store.row("race_clock")?.started_at), instant, page.selected);
  }
  if (page.chart === "stints") charts.stints.update(ordered, store.rows("stints"), laps, page.selected);
}

function tell(found) {
  if (found.length === 0) return;
  const lap = (store.row("race_clock")?.laps_completed ?? 0) + 1;
  for (const { kind, text } of found) {
    const item = document.createElement("li");
    item.dataset.kind = kind;
    item.append(Object.assign(document.createElement("span"), { className: "event-lap", textContent: `L${lap}` }), text);
    events.list.prepend(item);
  }
  while (events.list.children.length > EVENTS_MAX) events.list.lastChild.remove();
  const spoken = found.filter((event) => event.isSpoken).map((event) => event.text);
  if (spoken.length) byId("announcer").textContent = `${spoken.join(". ")}.`;
}


function showConnection(state) {
  const isBehind = state === ConnectionState.LIVE && performance.now() < page.catchUpUntil;
  const words = { closed: "Not connected", connecting: "Connecting", live: isReplay() ? "Replay" : "Live", reconnecting: "Reconnecting", offline: "Offline", gone: "Session gone" };
  const node = byId("connection");
  const text = isBehind ? "Catching up" : words[state];
  node.dataset.state = isBehind ? "behind" : state;
  if (byId("connection-text").textContent !== text) byId("connection-text").textContent = text;
  if (state === ConnectionState.GONE) showNotice("The server no longer has this session.");
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

async function lookBack(lap) {
  looking?.abort();
  looking = new AbortController();
  const { signal } = looking;
  byId("scrubber-value").textContent = `lap ${lap}`;
  try {
    const query = { as_of: `lap:${lap}` };
    const number = page.session.session;
    const timing = await rest.channel(number, "timing", query, signal);
    const others = await Promise.all(["track_status", "telemetry"].map((channel) => rest.channel(number, channel, query, signal).catch(() => ({ rows: [] }))));
    if (signal.aborted) return;
    page.past = { lap, timing: timing.rows, trackStatus: others[0].rows[0] ?? null, position: { epoch: timing.epoch, seq: timing.seq, knownAt: instant(timing.known_at) } };
    map.freeze(others[1].rows);
    byId("past-text").textContent = `Looking at the end of lap ${lap}.`;
    byId("past").hidden = false;
    document.body.classList.add("looking-back");
    page.dirty.add("timing").add("track_status");
    page.chartsAt = page.panelAt = 0;
  } catch (problem) {
    if (problem.name === "AbortError") return;
    if (problem.retryAfterMs) setTimeout(() => !signal.aborted && lookBack(lap), problem.retryAfterMs);
    else showNotice(`Lap ${lap} cannot be shown: ${problem.message}`);
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
  page.dirty.add("timing").add("track_status");
  page.chartsAt = page.panelAt = 0;
}


let resting = null;
byId("scrubber").addEventListener("input", (event) => {
  clearTimeout(resting);
  const lap = Number(event.target.value);
  byId("scrubber-value").textContent = `lap ${lap}`;
  resting = setTimeout(() => lookBack(lap), SCRUB_REST_MS);
});
byId("past-live").addEventListener("click", backToLive);
byId("notice-retry").addEventListener("click", refreshSession);
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

const tabs = [...document.querySelectorAll("[role=tab]")];
function openTab(tab) {
  for (const other of tabs) {
    const isOpen = other === tab;
    other.setAttribute("aria-selected", String(isOpen));
    other.tabIndex = isOpen ? 0 : -1;
    byId(other.getAttribute("aria-controls")).hidden = !isOpen;
  }
  page.chart = tab.id.slice("tab-".length);
  page.chartsAt = 0;
}
for (const tab of tabs) {
  tab.addEventListener("click", () => openTab(tab));
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = tabs[(tabs.indexOf(tab) + step + tabs.length) % tabs.length];
    openTab(next);
    next.focus();
  });
}

byId("views").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  document.body.dataset.view = button.dataset.view;
  for (const other of byId("views").children) other.toggleAttribute("aria-current", other === button);
  page.chartsAt = 0;
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
