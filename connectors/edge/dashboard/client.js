/**
 * PitWall's client for browsers and Node: one WebSocket, any number of subscriptions, docs/protocol.md as its contract.
 *
 *     const client = new PitWallClient({ url: "ws://127.0.0.1:8080/ws" });
 *     client.subscribe("timing", 9920, {
 *       onSnapshot: ({ rows }) => replaceAll(rows),   // every key's newest row: forget what was there
 *       onFrame: ({ rows }) => upsert(rows),          // what changed since
 *     });
 *     client.connect();
 *
 * What it promises a subscriber:
 * - Every message belongs behind the one before: either a snapshot, which stands alone, or a frame whose `prev` is the last `seq`
 *   delivered. Anything else is kept back, and the channel asks again from its last position.
 * - A lost connection is reopened after a pause that doubles up to a limit, drawn at random below that so that a thousand clients do not
 *   return at once. Each channel resumes at its `{epoch, seq}`: the server answers `recovered`, and nothing is missing, or a snapshot.
 * - Nothing is tried while the device is offline; coming back online, or into view, tries at once.
 */

/** Where the connection stands; the argument of `onState`. */
export const ConnectionState = Object.freeze({
  /** Not asked to connect, or closed by `close`. */
  CLOSED: "closed",
  /** The first attempt is under way. */
  CONNECTING: "connecting",
  /** Open, and every message so far was in order. */
  LIVE: "live",
  /** Lost; another attempt is under way or waits for its time. */
  RECONNECTING: "reconnecting",
  /** The device has no network. */
  OFFLINE: "offline",
  /** The server knows no such session or channel; it is not tried again. */
  GONE: "gone",
});

/** Close codes of docs/protocol.md that change what happens next. */
const CLOSE_TOO_FAR_BEHIND = 1013;
const CLOSE_UNKNOWN = 4404;

/** Defaults of the constructor's options; all in milliseconds. */
export const DEFAULTS = Object.freeze({
  /** Upper end of the first pause before connecting again. */
  backoffFirstMs: 500,
  /** No pause is longer. */
  backoffLongestMs: 15_000,
  /** Least pause after the server said that this client is too far behind. */
  behindPauseMs: 2_000,
  /** An attempt that has not opened by then is given up. */
  connectTimeoutMs: 10_000,
  /** Back in view after this long without a message, the socket is taken for dead: a half-open one looks just like a quiet session. */
  silenceMs: 20_000,
});

/** One channel of one session, and how far its messages have been delivered. */
class Subscription {
  constructor(channel, session, handlers) {
    this.channel = channel;
    this.session = session;
    this.handlers = handlers;
    /** Position of the last message delivered, or null before the first. */
    this.position = null;
    /** Whether a subscribe was sent and neither snapshot nor recovered has come: frames until then belong to the past. */
    this.isAwaiting = false;
  }

  answersTo(message) {
    return message.channel === this.channel && (message.session === this.session || (this.session === "latest" && this.isAwaiting));
  }

  request() {
    const message = { type: "subscribe", channel: this.channel, session: this.session };
    return this.position ? { ...message, since: this.position } : message;
  }
}

/** A connection to one edge that survives losing it. */
export class PitWallClient {
  #options;
  #createSocket;
  #random;
  #onState;
  #onError;
  #subscriptions = new Set();
  #socket = null;
  #state = ConnectionState.CLOSED;
  #isWanted = false;
  #attempts = 0;
  #retryTimer = null;
  #connectTimer = null;
  #lastMessageAt = 0;
  #listeners = [];

  /**
   * @param {object} options
   * @param {string} options.url Address of the server's `/ws`.
   * @param {(state: string) => void} [options.onState] Told each change of `ConnectionState`.
   * @param {(problem: {status: number|null, detail: string}) => void} [options.onError] Told the server's `error` messages, and
   *   messages that cannot be read.
   * @param {(url: string) => WebSocket} [options.createSocket] For tests.
   * @param {() => number} [options.random] In [0, 1); for tests.
   * @param {EventTarget} [options.window] Where `online` and `offline` are heard. Defaults to the browser's.
   * @param {EventTarget} [options.document] Where `visibilitychange` is heard. Defaults to the browser's.
   * Further options are those of `DEFAULTS`.
   */
  constructor({ url, onState, onError, createSocket, random, window = globalThis.window, document = globalThis.document, ...limits }) {
    this.#options = { ...DEFAULTS, ...limits, url };
    this.#createSocket = createSocket ?? ((address) => new WebSocket(address));
    this.#random = random ?? Math.random;
    this.#onState = onState ?? (() => {});
    this.#onError = onError ?? (() => {});
    this.#listen(window, "online", () => this.#retryNow());
    this.#listen(window, "offline", () => this.#goOffline());
    this.#listen(document, "visibilitychange", () => document.visibilityState === "visible" && this.#returnToView());
  }

  /** The current `ConnectionState`. */
  get state() {
    return this.#state;
  }

  /** Opens the connection and keeps it open until `close`. Once the server has said that it knows no such session this is final. */
  connect() {
    if (this.#isWanted || this.#state === ConnectionState.GONE) return;
    this.#isWanted = true;
    this.#attempts = 0;
    this.#open(ConnectionState.CONNECTING);
  }

  /** Closes the connection for good and stops listening to the browser. Subscriptions end without a further message. */
  close() {
    this.#isWanted = false;
    this.#dropSocket();
    clearTimeout(this.#retryTimer);
    for (const [target, type, listener] of this.#listeners) target.removeEventListener(type, listener);
    this.#listeners = [];
    this.#subscriptions.clear();
    this.#setState(ConnectionState.CLOSED);
  }

  /**
   * Subscribes to a channel of a session; a channel of a session once at a time.
   *
   * @param {string} channel A fact kind, such as `timing`.
   * @param {number|"latest"} session Its number, or `latest`; the number replaces `latest` with the first answer.
   * @param {object} handlers
   * @param {(message: object) => void} [handlers.onSnapshot] Every key's newest row. Also called for a frame that stands on its own
   *   (`prev: null`), with `isCatchUp: true`: the server skipped frames because this client was slow.
   * @param {(message: object) => void} [handlers.onFrame] What changed since the message before.
   * @param {(message: object) => void} [handlers.onRecovered] The channel resumed; nothing is missing.
   * @returns {() => void} Ends the subscription.
   */
  subscribe(channel, session, handlers) {
    for (const other of this.#subscriptions) {
      if (other.channel === channel && other.session === session) throw new Error(`${channel} of session ${session} is subscribed already`);
    }
    const subscription = new Subscription(channel, session, handlers);
    this.#subscriptions.add(subscription);
    this.#ask(subscription);
    return () => {
      if (this.#subscriptions.delete(subscription)) {
        this.#send({ type: "unsubscribe", channel, session: subscription.session });
      }
    };
  }

  #listen(target, type, listener) {
    if (!target?.addEventListener) return;
    target.addEventListener(type, listener);
    this.#listeners.push([target, type, listener]);
  }

  #setState(state) {
    if (state === this.#state) return;
    this.#state = state;
    this.#onState(state);
  }

  #open(state) {
    clearTimeout(this.#retryTimer);
    this.#dropSocket();
    this.#setState(state);
    const socket = this.#createSocket(this.#options.url);
    this.#socket = socket;
    // A socket that was replaced may still speak; only the current one is listened to.
    const current = (handle) => (event) => this.#socket === socket && handle(event);
    socket.onopen = current(() => this.#opened());
    socket.onmessage = current((event) => this.#received(event.data));
    socket.onclose = current((event) => this.#lost(event.code));
    this.#connectTimer = setTimeout(() => this.#lost(null), this.#options.connectTimeoutMs);
  }

  #opened() {
    clearTimeout(this.#connectTimer);
    this.#lastMessageAt = Date.now();
    this.#setState(ConnectionState.LIVE);
    for (const subscription of this.#subscriptions) this.#ask(subscription);
  }

  #ask(subscription) {
    subscription.isAwaiting = this.#send(subscription.request());
  }

  #send(message) {
    if (this.#state !== ConnectionState.LIVE) return false;
    this.#socket.send(JSON.stringify(message));
    return true;
  }

  #received(text) {
    this.#lastMessageAt = Date.now();
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      this.#onError({ status: null, detail: "the server sent a message that is not JSON; is this address PitWall's?" });
      return;
    }
    if (message.type === "error") {
      this.#onError({ status: message.status, detail: message.detail });
      return;
    }
    for (const subscription of this.#subscriptions) {
      if (subscription.answersTo(message)) {
        this.#deliver(subscription, message);
        return;
      }
    }
  }

  #deliver(subscription, message) {
    const { handlers, position } = subscription;
    const here = { epoch: message.epoch, seq: message.seq };
    if (message.type === "snapshot" || message.type === "recovered") {
      // Only an answer shows that the server is well: one that opens and closes at once must not be tried without pause.
      this.#attempts = 0;
      subscription.session = message.session;
      subscription.isAwaiting = false;
      if (message.type === "snapshot") {
        subscription.position = here;
        handlers.onSnapshot?.({ ...message, isCatchUp: false });
      } else {
        handlers.onRecovered?.(message);
      }
      return;
    }
    if (message.type !== "frame" || subscription.isAwaiting) return;
    const isSameEpoch = position !== null && position.epoch === message.epoch;
    if (isSameEpoch && message.seq <= position.seq) return;
    if (message.prev === null) {
      subscription.position = here;
      handlers.onSnapshot?.({ ...message, isCatchUp: true });
    } else if (isSameEpoch && message.prev === position.seq) {
      subscription.position = here;
      handlers.onFrame?.(message);
    } else {
      this.#send({ type: "unsubscribe", channel: subscription.channel, session: subscription.session });
      this.#ask(subscription);
    }
  }

  #lost(code) {
    this.#dropSocket();
    if (!this.#isWanted) return;
    if (code === CLOSE_UNKNOWN) {
      this.#isWanted = false;
      this.#setState(ConnectionState.GONE);
      return;
    }
    this.#setState(ConnectionState.RECONNECTING);
    const { backoffFirstMs, backoffLongestMs, behindPauseMs } = this.#options;
    const ceiling = Math.min(backoffLongestMs, backoffFirstMs * 2 ** this.#attempts);
    this.#attempts += 1;
    const least = code === CLOSE_TOO_FAR_BEHIND ? behindPauseMs : 0;
    this.#retryTimer = setTimeout(() => this.#open(ConnectionState.RECONNECTING), least + ceiling * this.#random());
  }

  #dropSocket() {
    clearTimeout(this.#connectTimer);
    const socket = this.#socket;
    this.#socket = null;
    for (const subscription of this.#subscriptions) subscription.isAwaiting = false;
    socket?.close();
  }

  #goOffline() {
    if (!this.#isWanted) return;
    clearTimeout(this.#retryTimer);
    this.#dropSocket();
    this.#setState(ConnectionState.OFFLINE);
  }

  #retryNow() {
    if (this.#isWanted && this.#state !== ConnectionState.LIVE) this.#open(ConnectionState.RECONNECTING);
  }

  #returnToView() {
    if (this.#state === ConnectionState.RECONNECTING) this.#retryNow();
    else if (this.#state === ConnectionState.LIVE && Date.now() - this.#lastMessageAt > this.#options.silenceMs) {
      this.#open(ConnectionState.RECONNECTING);
    }
  }
}

/** An answer of the REST interface that is not a success; `message` is the problem's `detail`, which says what to do. */
export class PitWallProblem extends Error {
  constructor(status, detail, retryAfterMs) {
    super(detail);
    this.status = status;
    /** How long the server asks to wait, ms; null when it does not say. */
    this.retryAfterMs = retryAfterMs;
  }
}

/** The REST interface, as far as the dashboard reads it. */
export class PitWallRest {
  #base;
  #fetch;

  /** @param {string} base Origin of the server, without a trailing slash; empty for the page's own. */
  constructor(base = "", fetchFunction = (...call) => globalThis.fetch(...call)) {
    this.#base = base;
    this.#fetch = fetchFunction;
  }

  /** The session's state; `session` may be `latest`. */
  session(session, signal) {
    return this.#json(`/api/v1/sessions/${session}`, { signal });
  }

  /** The newest row of each key of a channel, now or at the moment `query.as_of`. */
  channel(session, channel, query = {}, signal = undefined) {
    const text = new URLSearchParams(query).toString();
    return this.#json(`/api/v1/sessions/${session}/${channel}${text ? `?${text}` : ""}`, { signal });
  }

  /** Every fact of a channel in order, page by page, `pagesMax` pages at most. */
  async history(session, channel, pagesMax = 100) {
    const rows = [];
    let after = null;
    for (let page = 0; page < pagesMax; page += 1) {
      const answer = await this.channel(session, channel, { history: "true", ...(after === null ? {} : { after }) });
      rows.push(...answer.rows);
      after = answer.next_after ?? null;
      if (after === null) break;
    }
    return rows;
  }

  /** A fact and the ledger records it came from. */
  explain(session, factId, signal) {
    return this.#json(`/api/v1/sessions/${session}/facts/${encodeURIComponent(factId)}`, { signal });
  }

  /** Steers a replay with `{speed}`, `{is_paused}` or both. */
  steer(session, change) {
    return this.#json(`/api/v1/sessions/${session}/replay`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(change),
    });
  }

  async #json(path, request) {
    const response = await this.#fetch(`${this.#base}${path}`, request);
    if (response.ok) return response.json();
    const problem = await response.json().catch(() => ({}));
    const seconds = Number(response.headers.get("Retry-After"));
    throw new PitWallProblem(response.status, problem.detail ?? `the server answered ${response.status}`, seconds > 0 ? seconds * 1_000 : null);
  }
}
