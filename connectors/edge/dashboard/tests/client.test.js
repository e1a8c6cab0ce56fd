// The client against a socket that the test holds: each test says what the server sends and looks at what is asked and delivered.
import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import { ConnectionState, PitWallClient, PitWallProblem, PitWallRest } from "../client.js";

class FakeSocket {
  sent = [];
  isClosed = false;
  send(text) {
    this.sent.push(JSON.parse(text));
  }
  close() {
    this.isClosed = true;
  }
  open() {
    this.onopen({});
  }
  say(message) {
    this.onmessage({ data: JSON.stringify(message) });
  }
  drop(code = 1006) {
    this.onclose({ code });
  }
}

let sockets;
let states;
let errors;
let view;
let clients;

beforeEach(() => {
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
  sockets = [];
  states = [];
  errors = [];
  clients = [];
  view = { window: new EventTarget(), document: Object.assign(new EventTarget(), { visibilityState: "visible" }) };
});

afterEach(() => {
  for (const client of clients) client.close();
  mock.timers.reset();
});

function makeClient(options = {}) {
  const client = new PitWallClient({
    url: "ws://edge/ws",
    createSocket: () => {
      sockets.push(new FakeSocket());
      return sockets.at(-1);
    },
    random: () => 0.5,
    onState: (state) => states.push(state),
    onError: (problem) => errors.push(problem),
    ...view,
    ...options,
  });
  clients.push(client);
  return client;
}

function subscribed(client, channel = "timing", session = 9920) {
  const seen = [];
  const end = client.subscribe(channel, session, {
    onSnapshot: (message) => seen.push([message.isCatchUp ? "catch-up" : "snapshot", message.seq]),
    onFrame: (message) => seen.push(["frame", message.seq]),
    onRecovered: (message) => seen.push(["recovered", message.seq]),
  });
  return { seen, end };
}

const at = (type, seq, prev = null, more = {}) => ({ type, channel: "timing", session: 9920, epoch: 0, seq, prev, rows: [], ...more });

test("a subscription made before the connection is asked for once it opens", () => {
  const client = makeClient();
  subscribed(client);
  client.connect();
  assert.deepEqual(sockets[0].sent, []);
  sockets[0].open();
  assert.deepEqual(sockets[0].sent, [{ type: "subscribe", channel: "timing", session: 9920 }]);
});

test("frames that follow one another are delivered", () => {
  const client = makeClient();
  const { seen } = subscribed(client);
  client.connect();
  sockets[0].open();
  sockets[0].say(at("snapshot", 10));
  sockets[0].say(at("frame", 12, 10));
  sockets[0].say(at("frame", 19, 12));
  assert.deepEqual(seen, [["snapshot", 10], ["frame", 12], ["frame", 19]]);
});

test("a frame whose prev is not the last seq is kept back and the channel asks again from its position", () => {
  const client = makeClient();
  const { seen } = subscribed(client);
  client.connect();
  sockets[0].open();
  sockets[0].say(at("snapshot", 10));
  sockets[0].say(at("frame", 19, 12));
  assert.deepEqual(sockets[0].sent.slice(1), [
    { type: "unsubscribe", channel: "timing", session: 9920 },
    { type: "subscribe", channel: "timing", session: 9920, since: { epoch: 0, seq: 10 } },
  ]);
  // This one left the server before it read the new subscribe.
  sockets[0].say(at("frame", 25, 19));
  assert.deepEqual(seen, [["snapshot", 10]]);
  sockets[0].say(at("recovered", 10));
  sockets[0].say(at("frame", 12, 10));
  assert.deepEqual(seen, [["snapshot", 10], ["recovered", 10], ["frame", 12]]);
});

test("a frame of another epoch is kept back even when its prev fits", () => {
  const client = makeClient();
  const { seen } = subscribed(client);
  client.connect();
  sockets[0].open();
  sockets[0].say(at("snapshot", 10));
  sockets[0].say(at("frame", 12, 10, { epoch: 1 }));
  sockets[0].say(at("snapshot", 12, null, { epoch: 1 }));
  assert.deepEqual(seen, [["snapshot", 10], ["snapshot", 12]]);
});

test("a frame without prev stands on its own and is marked as catching up", () => {
  const client = makeClient();
  const { seen } = subscribed(client);
  client.connect();
  sockets[0].open();
  sockets[0].say(at("snapshot", 10));
  sockets[0].say(at("frame", 90, null));
  sockets[0].say(at("frame", 91, 90));
  assert.deepEqual(seen, [["snapshot", 10], ["catch-up", 90], ["frame", 91]]);
});

test("a frame delivered already is not delivered again", () => {
  const client = makeClient();
  const { seen } = subscribed(client);
  client.connect();
  sockets[0].open();
  sockets[0].say(at("snapshot", 10));
  sockets[0].say(at("frame", 12, 10));
  sockets[0].say(at("frame", 12, 10));
  assert.deepEqual(seen, [["snapshot", 10], ["frame", 12]]);
  assert.equal(sockets[0].sent.length, 1);
});

test("after a lost connection each channel resumes at its own position", () => {
  const client = makeClient();
  subscribed(client);
  subscribed(client, "laps");
  client.connect();
  sockets[0].open();
  sockets[0].say(at("snapshot", 10));
  sockets[0].say(at("frame", 12, 10));
  sockets[0].say(at("snapshot", 11, null, { channel: "laps" }));
  sockets[0].drop();
  mock.timers.tick(250);
  sockets[1].open();
  assert.deepEqual(sockets[1].sent.map(({ channel, since }) => [channel, since]), [
    ["timing", { epoch: 0, seq: 12 }],
    ["laps", { epoch: 0, seq: 11 }],
  ]);
  assert.deepEqual(states, ["connecting", "live", "reconnecting", "live"]);
});

test("pauses between attempts double up to the limit, and an answer starts them afresh", () => {
  const client = makeClient({ backoffFirstMs: 100, backoffLongestMs: 400, random: () => 0.999 });
  subscribed(client);
  client.connect();
  for (const pause of [100, 200, 400, 400]) {
    const attempts = sockets.length;
    sockets.at(-1).drop();
    mock.timers.tick(Math.floor(pause * 0.999) - 1);
    assert.equal(sockets.length, attempts, `tried before ${pause} ms`);
    mock.timers.tick(2);
    assert.equal(sockets.length, attempts + 1, `not tried after ${pause} ms`);
  }
  // Opening alone is no answer: the pause stays long.
  sockets.at(-1).open();
  const attempts = sockets.length;
  sockets.at(-1).drop();
  mock.timers.tick(300);
  assert.equal(sockets.length, attempts);
  mock.timers.tick(200);
  sockets.at(-1).open();
  sockets.at(-1).say(at("snapshot", 10));
  sockets.at(-1).drop();
  mock.timers.tick(100);
  assert.equal(sockets.length, attempts + 2);
});

test("a client told that it is too far behind waits before it comes back", () => {
  const client = makeClient({ behindPauseMs: 2_000, random: () => 0 });
  subscribed(client);
  client.connect();
  sockets[0].open();
  sockets[0].drop(1013);
  mock.timers.tick(1_999);
  assert.equal(sockets.length, 1);
  mock.timers.tick(1);
  assert.equal(sockets.length, 2);
});

test("an unknown session is not tried again", () => {
  const client = makeClient();
  client.connect();
  sockets[0].open();
  sockets[0].drop(4404);
  mock.timers.tick(60_000);
  assert.equal(sockets.length, 1);
  assert.equal(client.state, ConnectionState.GONE);
  client.connect();
  view.window.dispatchEvent(new Event("online"));
  view.document.dispatchEvent(new Event("visibilitychange"));
  mock.timers.tick(60_000);
  assert.equal(sockets.length, 1, "4404 is final, whoever asks");
  assert.equal(client.state, ConnectionState.GONE);
});

test("nothing is tried while offline, and coming back online tries at once", () => {
  const client = makeClient();
  client.connect();
  sockets[0].open();
  view.window.dispatchEvent(new Event("offline"));
  assert.equal(client.state, ConnectionState.OFFLINE);
  assert.ok(sockets[0].isClosed);
  mock.timers.tick(60_000);
  assert.equal(sockets.length, 1);
  view.window.dispatchEvent(new Event("online"));
  assert.equal(sockets.length, 2);
});

test("coming back into view ends a pause, and reopens a socket that has been silent too long", () => {
  const client = makeClient({ silenceMs: 20_000 });
  client.connect();
  sockets[0].open();
  view.document.dispatchEvent(new Event("visibilitychange"));
  assert.equal(sockets.length, 1);
  mock.timers.tick(20_001);
  view.document.dispatchEvent(new Event("visibilitychange"));
  assert.equal(sockets.length, 2);
  sockets[1].drop();
  view.document.dispatchEvent(new Event("visibilitychange"));
  assert.equal(sockets.length, 3);
});

test("an attempt that never opens is given up and tried again", () => {
  const client = makeClient({ connectTimeoutMs: 10_000 });
  client.connect();
  mock.timers.tick(10_000);
  assert.ok(sockets[0].isClosed);
  assert.equal(client.state, ConnectionState.RECONNECTING);
  mock.timers.tick(250);
  assert.equal(sockets.length, 2);
});

test("a socket that was replaced is not listened to", () => {
  const client = makeClient();
  const { seen } = subscribed(client);
  client.connect();
  sockets[0].open();
  sockets[0].drop();
  mock.timers.tick(250);
  sockets[0].say(at("snapshot", 10));
  assert.deepEqual(seen, []);
});

test("latest becomes the session that the answer names", () => {
  const client = makeClient();
  const { seen } = subscribed(client, "timing", "latest");
  client.connect();
  sockets[0].open();
  sockets[0].say(at("snapshot", 10));
  sockets[0].say(at("frame", 12, 10));
  sockets[0].say(at("frame", 13, 10, { session: 9873 }));
  assert.deepEqual(seen, [["snapshot", 10], ["frame", 12]]);
});

test("an ended subscription hears nothing more and tells the server", () => {
  const client = makeClient();
  const { seen, end } = subscribed(client);
  client.connect();
  sockets[0].open();
  end();
  sockets[0].say(at("snapshot", 10));
  assert.deepEqual(seen, []);
  assert.deepEqual(sockets[0].sent.at(-1), { type: "unsubscribe", channel: "timing", session: 9920 });
});

test("a channel of a session is subscribed once", () => {
  const client = makeClient();
  subscribed(client);
  assert.throws(() => subscribed(client), /subscribed already/);
});

test("errors and unreadable messages are reported and the connection stays", () => {
  const client = makeClient();
  client.connect();
  sockets[0].open();
  sockets[0].say({ type: "error", status: 400, detail: "no such moment" });
  sockets[0].onmessage({ data: "<html>" });
  assert.equal(errors.length, 2);
  assert.deepEqual(errors[0], { status: 400, detail: "no such moment" });
  assert.equal(client.state, ConnectionState.LIVE);
});

test("a history is read page by page to its end", async () => {
  const asked = [];
  const pages = [{ rows: [1, 2], next_after: 7 }, { rows: [3], next_after: null }];
  const rest = new PitWallRest("http://edge", async (url) => {
    asked.push(url);
    return { ok: true, json: async () => pages[asked.length - 1] };
  });
  assert.deepEqual(await rest.history(9920, "positions"), [1, 2, 3]);
  assert.deepEqual(asked, [
    "http://edge/api/v1/sessions/9920/positions?history=true",
    "http://edge/api/v1/sessions/9920/positions?history=true&after=7",
  ]);
});

test("a problem carries the server's words and how long to wait", async () => {
  const rest = new PitWallRest("", async () => ({
    ok: false,
    status: 503,
    headers: new Headers({ "Retry-After": "2" }),
    json: async () => ({ detail: "two looks at the past run already" }),
  }));
  await assert.rejects(rest.channel(9920, "timing", { as_of: "lap:3" }), (problem) => {
    assert.ok(problem instanceof PitWallProblem);
    assert.deepEqual([problem.status, problem.message, problem.retryAfterMs], [503, "two looks at the past run already", 2_000]);
    return true;
  });
});
