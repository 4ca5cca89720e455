// The published API client for Node, npm cent.js, against the server API, while the published SDK listens:
// node serverapi.mjs API_URL KEY WEBSOCKET_URL
import assert from 'node:assert/strict';
import cent from 'cent.js';
import { Centrifuge } from 'centrifuge';
import WebSocket from 'ws';

const [url, apiKey, socket] = process.argv.slice(2);
const api = new cent.CentClient({ url, apiKey });

/** listener connects the SDK as a user, and collects what a channel brings. */
async function listener(channel) {
  const client = new Centrifuge(socket, { websocket: WebSocket });
  const sub = client.newSubscription(channel);
  const seen = [];
  sub.on('publication', ({ data }) => seen.push(data));
  const ended = new Promise((resolve) => client.on('disconnected', resolve));
  const connected = new Promise((resolve) => client.on('connected', resolve));
  const subscribed = new Promise((resolve) => sub.on('subscribed', resolve));
  sub.subscribe();
  client.connect();
  const { client: id } = await connected;
  await subscribed;
  return { client, sub, seen, ended, id };
}

const until = async (what, done) => {
  for (let tries = 0; !(await done()); tries++) {
    assert.ok(tries < 1000, what);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
};

const scenarios = {
  'publish, broadcast and history': async () => {
    const l = await listener('kept:1');
    const first = await api.publish({ channel: 'kept:1', data: { n: 1 }, idempotency_key: 'a' });
    assert.deepEqual(await api.publish({ channel: 'kept:1', data: { n: 1 }, idempotency_key: 'a' }), first);
    const { responses } = await api.broadcast({ channels: ['kept:1', 'other'], data: { n: 2 } });
    assert.equal(responses[0].result.offset, 2);
    assert.deepEqual(responses[1].error, { code: 102, message: 'unknown channel' });
    await until('publications', () => l.seen.length === 2);
    assert.deepEqual(l.seen, [{ n: 1 }, { n: 2 }]);
    const history = await api.getHistory({ channel: 'kept:1', limit: 1, reverse: true });
    assert.deepEqual(history, { publications: [{ data: { n: 2 }, offset: 2 }], epoch: first.epoch, offset: 2 });
    await api.removeHistory({ channel: 'kept:1' });
    l.client.disconnect();
  },
  'who is there': async () => {
    const l = await listener('lobby');
    assert.deepEqual(await api.getPresence({ channel: 'lobby' }), { presence: { [l.id]: { user: 'ann', client: l.id } } });
    assert.deepEqual(await api.getPresenceStats({ channel: 'lobby' }), { num_clients: 1, num_users: 1 });
    assert.deepEqual(await api.getChannels({ pattern: 'lob*' }), { channels: { lobby: { num_clients: 1 } } });
    assert.equal((await api.getInfo()).nodes.length, 1);
    await until('that the one before has left', async () => (await api.getInfo()).nodes[0].num_clients === 1);
    l.client.disconnect();
    await l.ended;
  },
  'subscribe, unsubscribe, refresh and disconnect': async () => {
    const l = await listener('lobby');
    const pushed = [];
    for (const kind of ['subscribed', 'publication', 'unsubscribed']) l.client.on(kind, ({ channel }) => pushed.push(`${kind} ${channel}`));
    await api.subscribe({ channel: 'kept:2', user: 'ann', client: l.id });
    await api.publish({ channel: 'kept:2', data: {} });
    await api.unsubscribe({ channel: 'kept:2', user: 'ann' });
    await api.refresh({ user: 'ann', expire_at: Math.floor(Date.now() / 1000) + 3600 });
    await until('pushes', () => pushed.length === 3);
    assert.deepEqual(pushed, ['subscribed kept:2', 'publication kept:2', 'unsubscribed kept:2']);
    await api.disconnect({ user: 'ann', disconnect: { code: 4501, reason: 'banned' } });
    const { code, reason } = await l.ended;
    assert.deepEqual([code, reason], [4501, 'banned']);
  },
  'errors and the combined form': async () => {
    await until('that the one before has left', async () => (await api.getPresenceStats({ channel: 'lobby' })).num_clients === 0);
    await assert.rejects(api.publish({ channel: 'other', data: {} }), { name: 'Error', message: '[object Object]' }); // which is all it says
    const answers = await api.pipeline([
      { method: 'publish', params: { channel: 'plain', data: {} } },
      { method: 'presence_stats', params: { channel: 'lobby' } },
    ]);
    assert.deepEqual(answers, [{}, { num_clients: 0, num_users: 0 }]);
  },
};

const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
say({ planned: Object.keys(scenarios) });
for (const [name, run] of Object.entries(scenarios)) {
  const began = Date.now();
  let error = '';
  try {
    await run();
  } catch (err) {
    error = err.stack ?? `${err}`;
  }
  say({ name, ok: !error, error, ms: Date.now() - began });
}
process.exit(0);
