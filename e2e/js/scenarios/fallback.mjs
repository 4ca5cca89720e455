// What a client does that has a list of ways to connect, [websocket, http_stream, sse], while something in between spoils some
// of them. t.env.expect is the first way that is left; t.env.node a node that takes connections of this page.
import { equal, numbers, ok, sleep } from '../harness.mjs';

const ways = ['websocket', 'http_stream', 'sse'];

/** reached are the scenarios where one way is left. */
const reached = {
  async 'fallback: connects, subscribes, publishes, recovers'(t) {
    const { expect, node } = t.env;
    const client = t.client({ node });
    client.connect();
    const { transport } = await client.seen.next('connected');
    const failures = client.seen.all('error').map((e) => `${e.transport}: ${e.error.code} ${e.error.message}`);
    equal(transport, expect, `transport ${transport}, after ${failures.join(', ')}`);
    equal(failures.length, ways.indexOf(transport), 'failures on the way');

    const sub = await t.subscribed(client, t.channel('stream'));
    equal(await sub.publish(1), {}, 'publish');
    await t.control('publish', { node, channel: sub.channel, items: [2] });
    equal(await sub.seen.data(2), [1, 2], 'live');

    await t.away(() => t.control('publish', { node, channel: sub.channel, items: numbers(3, 20) }));
    await sub.seen.next('subscribing');
    equal((await client.seen.next('connected')).transport, transport, 'transport after a cut');
    const back = await sub.seen.next('subscribed');
    equal([back.wasRecovering, back.recovered], [true, true], 'subscribed');
    await sub.publish(21);
    equal(await sub.seen.data(19), numbers(3, 21), 'missed and live');
    equal((await client.rpc('echo', 'bye')).data, 'bye', 'echo');
  },
};

/** idle are those where the node pings every other second, and what is in between ends what is silent for five. */
const idle = {
  async 'fallback: an idle connection lasts'(t) {
    const client = await t.connected({ node: t.env.node });
    await sleep(7000);
    equal((await client.rpc('echo', 1)).data, 1, 'echo');
    client.seen.none('connecting');
  },
};

/** held are those where every answer is held back until its end, of which there is none: the SDK does not give up. */
const held = {
  async 'fallback: nothing comes through, until it does'(t) {
    const client = t.client({ node: t.env.node, timeout: 2500 });
    client.connect();
    const tried = [];
    for (let i = 0; i < 4; i++) {
      const { type, error, transport } = await client.seen.next('error');
      tried.push([type, error.message, transport]);
    }
    const closed = ['transport', 'transport closed', 'websocket'];
    const late = ['connect', 'timeout', undefined]; // of the command: there is no answer either that would open the stream
    equal(tried, [closed, late, late, closed], 'each way, and from the first again');
    equal([client.state, client.seen.all('connected').length], ['connecting', 0], 'state');
    await fetch(`${t.env.via}/heal`, { method: 'POST', mode: 'no-cors' });
    const { transport } = await client.seen.next('connected');
    ok(ways.slice(1).includes(transport), `by ${transport}: sockets are still refused`);
    equal((await client.rpc('echo', 1)).data, 1, 'echo');
  },
};

/** refused are those of a page whose origin the node does not know. */
const refused = {
  async 'fallback: a foreign page gets nowhere'(t) {
    const client = t.client({ node: t.env.node });
    client.connect();
    for (const way of ways) {
      const { type, transport } = await client.seen.next('error');
      equal([type, transport], ['transport', way], 'error');
    }
    client.seen.none('connected');
  },
};

/** fallback returns the scenarios for what is expected: a way, or "held", or "refused". */
export function fallback({ expect, node }) {
  if (node === 'fast') return { ...reached, ...idle };
  return { held, refused }[expect] ?? reached;
}
