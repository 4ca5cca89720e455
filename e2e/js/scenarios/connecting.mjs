import { equal, ok, rejects, sleep } from '../harness.mjs';

export const connecting = {
  async 'connect'(t) {
    const client = await t.connected({ data: { reply: { hello: 'you' }, info: { name: 'Ann' } } });
    equal(client.hello.transport, t.env.door, 'transport');
    equal(client.hello.data, { hello: 'you' }, 'data of the connect reply');
    ok(client.hello.client.length > 0, 'a client id');
    const { data } = await client.rpc('whoami', {});
    equal(
      data,
      { user: t.user, client: client.hello.client, transport: t.env.door, state: t.user, info: { name: 'Ann' } },
      'what the server knows',
    );
  },

  async 'connect: anonymous, without data'(t) {
    const client = await t.connected({ user: '' });
    equal(client.hello.data, undefined, 'data of the connect reply');
    equal((await client.rpc('whoami', {})).data.user, '', 'user');
  },

  async 'connect: refused for good'(t) {
    const client = t.client({ data: { fail: { error: 101, message: 'unauthorized' } } });
    client.connect();
    const end = await client.seen.next('disconnected');
    equal([end.code, end.reason], [101, 'unauthorized'], 'disconnected');
  },

  async 'connect: refused with a code of the app'(t) {
    const client = t.client({ data: { fail: { error: 1400, message: 'no such tenant' } } });
    client.connect();
    const end = await client.seen.next('disconnected');
    equal([end.code, end.reason], [1400, 'no such tenant'], 'disconnected');
  },

  async 'connect: refused with a disconnect'(t) {
    const client = t.client({ data: { fail: { disconnect: 4501, message: 'banned' } } });
    client.connect();
    const end = await client.seen.next('disconnected');
    equal([end.code, end.reason], [4501, 'banned'], 'disconnected');
  },

  async 'connect: trouble of the server is tried again'(t) {
    const client = t.client({ data: { fail: { other: true, times: 2 } } });
    client.connect();
    await client.seen.next('connected');
    const codes = client.seen.all('error').map((e) => e.error.code);
    equal(codes, [100, 100], 'errors on the way');
  },

  async 'connect: token expired, then a new one'(t) {
    let asked = 0;
    const client = await t.connected({ token: 'expired', getToken: async () => (asked++, 'good') });
    equal(asked, 1, 'tokens asked for');
    equal(client.seen.all('error').map((e) => e.error.code), [109], 'errors on the way');
  },

  async 'connect: token invalid'(t) {
    const client = t.client({ token: 'garbage' });
    client.connect();
    const end = await client.seen.next('disconnected');
    equal([end.code, end.reason], [3500, 'invalid token'], 'disconnected');
  },

  async 'connect: a foreign origin is refused'(t) {
    const client = t.client(t.env.foreign(t.url('main', t.user)));
    client.connect();
    for (let i = 0; i < 2; i++) {
      const { type, error } = await client.seen.next('error');
      equal([type, error.code], ['transport', 2], 'error');
    }
    client.seen.none('connected');
  },

  async 'ping: a client hears them, under traffic and without'(t) {
    let pings = 0;
    class Counting extends t.env.WebSocket {
      constructor(...args) {
        super(...args);
        this.addEventListener('message', ({ data }) => {
          pings += typeof data === 'string' ? data.split('\n').filter((line) => line === '{}').length : emptyMessages(data);
        });
      }
    }
    // Without a ping every other second the SDK would give the connection up: it allows for less than one that is missing.
    const quiet = await t.connected({ node: 'fast', maxServerPingDelay: 1900 });
    const busy = await t.connected({ node: 'fast', websocket: Counting });
    const channel = t.channel('public');
    await t.subscribed(busy, channel);
    const begun = performance.now();
    await t.eventually('two pings under traffic, and six seconds without', async () => {
      await t.control('publish', { node: 'fast', channel, items: [pings] });
      await sleep(75);
      return pings >= 2 && performance.now() - begun > 6000;
    });
    quiet.seen.none('connecting');
    busy.seen.none('connecting');
  },

  async 'ping: a client that does not answer is closed'(t) {
    class Mute extends t.env.WebSocket {
      send(data) {
        if (data !== '{}' && !(data.length === 1 && data[0] === 0)) super.send(data);
      }
    }
    const client = await t.connected({ node: 'fast', websocket: Mute });
    const again = await client.seen.next('connecting');
    equal([again.code, again.reason], [3012, 'no pong'], 'connecting');
    await client.seen.next('connected');
  },

  async 'rpc'(t) {
    const client = await t.connected();
    for (const data of [{ a: [1, 'zwei', null] }, 'text', 0, false, '', [], {}, 'ünï\u2028code 🎺']) {
      equal((await client.rpc('echo', data)).data, data, 'echo');
    }
    equal((await client.rpc('nothing', {})).data, undefined, 'reply without data');
  },

  async 'rpc: many at once'(t) {
    const client = await t.connected();
    client.startBatching();
    const calls = Array.from({ length: 100 }, (_, i) => client.rpc('echo', i));
    client.stopBatching();
    equal((await Promise.all(calls)).map((r) => r.data), calls.map((_, i) => i), 'replies');
  },

  async 'rpc: errors'(t) {
    const client = await t.connected();
    await rejects(client.rpc('nope', {}), 104, 'unknown method');
    const custom = await rejects(client.rpc('fail', { error: 1234, message: 'out of stock' }), 1234, 'custom error');
    equal(custom.message, 'out of stock', 'message');
    const other = await rejects(client.rpc('fail', { other: true }), 100, 'trouble');
    equal([other.message, other.temporary], ['internal server error', true], 'nothing of the cause reaches the client');
    equal((await client.rpc('echo', 1)).data, 1, 'the connection goes on');
  },

  async 'rpc: a hook that hangs delays nothing but its client'(t) {
    // The server gives the hook four seconds, and the SDK by itself waits for five, which on a busy machine is the same.
    const hanging = await t.connected({ timeout: 15_000 });
    const other = await t.connected({ user: `${t.user}-other` });
    const sub = await t.subscribed(hanging, t.channel('stream'));
    let hangs = true;
    const reply = rejects(hanging.rpc('hang', {}), 100, 'hanging hook').finally(() => (hangs = false));
    await t.publish(sub.channel, 1);
    equal(await sub.seen.data(1), [1], 'deliveries go on');
    equal((await other.rpc('echo', 2)).data, 2, 'others go on');
    ok(hangs, 'meanwhile');
    await reply;
    equal((await hanging.rpc('echo', 3)).data, 3, 'its own commands go on');
    hanging.seen.none('connecting');
  },

  async 'rpc: a hook that panics costs one connection'(t) {
    const other = await t.connected({ user: `${t.user}-other` });
    const client = await t.connected();
    client.rpc('panic', {}).catch(() => {});
    const again = await client.seen.next('connecting');
    equal([again.code, again.reason], [3004, 'internal server error'], 'connecting');
    await client.seen.next('connected');
    equal((await other.rpc('echo', 2)).data, 2, 'others go on');
    other.seen.none('connecting');
  },

  async 'rpc: disconnect instead of a reply'(t) {
    const client = await t.connected();
    client.rpc('fail', { disconnect: 4700, message: 'go away' }).catch(() => {});
    const end = await client.seen.next('disconnected');
    equal([end.code, end.reason], [4700, 'go away'], 'disconnected');
  },

  async 'send and message'(t) {
    const client = await t.connected();
    for (const data of [{ typing: true }, 'x', 7]) {
      await client.send(data);
      equal((await client.seen.next('message')).data, data, 'message');
    }
  },

  async 'send: to a server that takes none'(t) {
    const client = await t.connected({ node: 'fast' });
    await client.send({});
    const end = await client.seen.next('disconnected');
    equal([end.code, end.reason], [3508, 'not available'], 'disconnected');
  },
};

/** emptyMessages counts the Protobuf messages of a frame that are pings. */
function emptyMessages(data) {
  const bytes = new Uint8Array(data);
  let count = 0;
  for (let at = 0; at < bytes.length; ) {
    let size = 0;
    for (let shift = 0; ; shift += 7) {
      const b = bytes[at++];
      size |= (b & 0x7f) << shift;
      if (b < 0x80) break;
    }
    if (size === 0) count++;
    at += size;
  }
  return count;
}
