// What scenarios are written with: clients whose events can be awaited, assertions, and the server's control endpoint.
// Everything here runs in Node and in a page.

/** How long to wait for one event, in ms. Long, because only a failure waits for it. */
const patience = 15_000;

export class AssertionError extends Error {}

/** equal compares by value. A property that is undefined counts as absent. */
export function equal(got, want, what = 'value') {
  if (canonical(got) !== canonical(want)) {
    throw new AssertionError(`${what}: got ${canonical(got)}, want ${canonical(want)}`);
  }
}

export function ok(condition, what) {
  if (!condition) throw new AssertionError(what);
}

function canonical(v) {
  if (v === undefined) return 'undefined';
  return JSON.stringify(v, (_, x) =>
    x && typeof x === 'object' && !Array.isArray(x)
      ? Object.fromEntries(Object.entries(x).sort(([a], [b]) => (a < b ? -1 : 1)))
      : x,
  );
}

/** rejects awaits a promise that must be rejected, with this error code if one is given. */
export async function rejects(promise, code, what = 'call') {
  let value;
  try {
    value = await promise;
  } catch (err) {
    if (code !== undefined) equal(err.code, code, `${what}: code of ${err.message}`);
    return err;
  }
  throw new AssertionError(`${what}: succeeded with ${canonical(value)}`);
}

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** numbers returns first … last. */
export const numbers = (first, last) => Array.from({ length: last - first + 1 }, (_, i) => first + i);

/** Watcher records what an emitter emits, so that nothing is missed between two awaits. */
class Watcher {
  constructor(emitter, label, types) {
    this.label = label;
    this.events = [];
    this.taken = 0;
    this.waiting = new Set();
    for (const type of types) {
      emitter.on(type, (ctx) => {
        this.events.push({ ...ctx, kind: type, taken: false });
        for (const wake of [...this.waiting]) wake();
      });
    }
  }

  /** next takes the oldest event of this kind that was not yet taken, waiting for it if need be. */
  async next(kind, timeout = patience) {
    const find = () => this.events.find((e) => !e.taken && e.kind === kind);
    const event = await this.wait(find, `${kind}`, timeout);
    event.taken = true;
    return event;
  }

  /** data takes the next count publications and returns their data. */
  async data(count, timeout) {
    const list = [];
    while (list.length < count) list.push((await this.next('publication', timeout)).data);
    return list;
  }

  all(kind) {
    return this.events.filter((e) => e.kind === kind);
  }

  /** none asserts that no event of this kind is left untaken. */
  none(kind) {
    const left = this.events.filter((e) => !e.taken && e.kind === kind);
    equal(left, [], `${this.label}: ${kind} events that nobody expected`);
  }

  wait(find, what, timeout = patience) {
    const found = find();
    if (found) return Promise.resolve(found);
    return new Promise((resolve, reject) => {
      const wake = () => {
        const event = find();
        if (!event) return;
        this.waiting.delete(wake);
        clearTimeout(timer);
        resolve(event);
      };
      const timer = setTimeout(() => {
        this.waiting.delete(wake);
        const seen = this.events.slice(-8).map((e) => canonical({ ...e, taken: undefined }));
        reject(new AssertionError(`${this.label}: no ${what} within ${timeout} ms; last events: ${seen.join(' ') || 'none'}`));
      }, timeout);
      this.waiting.add(wake);
    });
  }
}

const clientEvents = [
  'connecting', 'connected', 'disconnected', 'message', 'error',
  'subscribed', 'subscribing', 'unsubscribed', 'publication', 'join', 'leave',
];
const sourceEvents = ['publication', 'gap', 'ready', 'join', 'leave', 'unsubscribe', 'disconnect', 'error'];
const subscriptionEvents = ['subscribing', 'subscribed', 'unsubscribed', 'publication', 'join', 'leave', 'error'];

/** Scenario is what one scenario gets: names of its own, and clients that end with it. */
export class Scenario {
  constructor(env, name) {
    this.env = env;
    this.name = name;
    this.id = `${name.replace(/[^a-z0-9]+/g, '-')}-${Math.random().toString(36).slice(2, 8)}`;
    this.user = this.id;
    this.cleanups = [];
  }

  /** channel returns a name of its own under the pattern `${kind}:{id}`. */
  channel(kind, suffix = '') {
    return `${kind}:${this.id}${suffix}`;
  }

  url(node, user) {
    return this.endpoint(node, user, 'websocket').replace(/^http/, 'ws');
  }

  endpoint(node, user, door) {
    return `${this.env.via ?? this.env.base}/realtime/${node}/${door}?user=${encodeURIComponent(user)}`;
  }

  /** client makes a client that does not connect yet, by the door of this run unless a URL is given. */
  client({ user = this.user, node = 'main', url, ...options } = {}) {
    const way = (door) => ({ transport: door, endpoint: door === 'websocket' ? this.url(node, user) : this.endpoint(node, user, door) });
    const targets = { websocket: this.url(node, user), plain: this.url(node, user), tokens: this.url(node, user), fallback: ['websocket', 'http_stream', 'sse'].map(way) };
    const target = url ?? targets[this.env.door] ?? [way(this.env.door)];
    const client = new this.env.Centrifuge(target, {
      websocket: this.env.WebSocket,
      ...this.env.options,
      emulationEndpoint: this.endpoint(node, user, 'emulation'),
      minReconnectDelay: 50,
      maxReconnectDelay: 300,
      ...options,
    });
    client.seen = new Watcher(client, `client ${user || 'anonymous'}`, clientEvents);
    this.cleanups.push(() => client.disconnect());
    return client;
  }

  /** source opens a plain EventSource on channels. Events of the types in also are recorded, too. */
  source(channels, query = {}, also = []) {
    const params = new URLSearchParams({ user: this.user, ...query });
    for (const channel of channels) params.append('channel', channel);
    const source = new this.env.EventSource(`${this.env.base}/realtime/main/events?${params}`);
    const events = { on: (type, fn) => source.addEventListener(type, (e) => fn({ data: e.data, id: e.lastEventId })) };
    source.seen = new Watcher(events, 'source', [...sourceEvents, ...also]);
    this.cleanups.push(() => source.close());
    return source;
  }

  /** connected makes a client and connects it. */
  async connected(options) {
    const client = this.client(options);
    client.connect();
    await client.seen.next('connecting');
    client.hello = await client.seen.next('connected');
    return client;
  }

  /** subscription makes a subscription that does not subscribe yet. */
  subscription(client, channel, options) {
    const sub = client.newSubscription(channel, { minResubscribeDelay: 50, maxResubscribeDelay: 300, ...options });
    sub.seen = new Watcher(sub, `subscription ${channel}`, subscriptionEvents);
    return sub;
  }

  /** subscribed makes a subscription and subscribes it; the event is kept as sub.first. */
  async subscribed(client, channel, options) {
    const sub = this.subscription(client, channel, options);
    sub.subscribe();
    await sub.seen.next('subscribing');
    sub.first = await sub.seen.next('subscribed');
    return sub;
  }

  /**
   * unsubscribed ends a subscription and awaits that the server did so, which its app is told. No later call would show it:
   * over HTTP streams each command is a request of its own, and one may overtake another.
   */
  async unsubscribed(sub, user = this.user) {
    const told = async () => (await this.control('diary', { user })).unsubscribes?.length ?? 0;
    const before = await told();
    sub.unsubscribe();
    await this.eventually(`the end of the subscription to ${sub.channel}`, async () => (await told()) > before);
  }

  /** control asks the server to do something. */
  async control(operation, order = {}) {
    const response = await fetch(`${this.env.base}/control/${operation}`, { method: 'POST', body: JSON.stringify(order) });
    const text = await response.text();
    if (!response.ok) throw new Error(`control ${operation}: ${text.trim()}`);
    return JSON.parse(text);
  }

  /** publish lets the server publish items, in order. */
  publish(channel, ...items) {
    return this.control('publish', { channel, items });
  }

  /** away cuts a user's connections and keeps the user out while fn runs. */
  async away(fn, user = this.user) {
    await this.control('cut', { user, hold: true });
    await fn();
    await this.control('admit', { user });
  }

  /** eventually polls until fn returns something true. */
  async eventually(what, fn) {
    for (const end = Date.now() + patience; ; ) {
      const value = await fn();
      if (value) return value;
      if (Date.now() > end) throw new AssertionError(`never: ${what}`);
      await sleep(25);
    }
  }

  end() {
    for (const cleanup of this.cleanups) cleanup();
  }
}
