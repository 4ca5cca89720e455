// What a page does that has no SDK: the browser's EventSource, or that of the npm package in Node, and fetch.
import { equal, numbers, ok } from '../harness.mjs';

/** perChannel sorts events by their type, which is the name of the channel. */
async function perChannel(source, channels, count) {
  const got = Object.fromEntries(channels.map((c) => [c, []]));
  for (const channel of channels) {
    while (got[channel].length < count) got[channel].push(JSON.parse((await source.seen.next(channel)).data));
  }
  return got;
}

export const plain = {
  async 'events: killed and resumed, over several channels'(t) {
    const channels = [t.channel('stream', '-1'), t.channel('stream', '-2'), t.channel('html')];
    const source = t.source(channels, { event: 'channel' }, channels);
    await source.seen.next('ready');
    const publish = async (from, to) => {
      for (const n of numbers(from, to)) {
        for (const channel of channels) await t.control('publish', { channel, raw: `${n}` });
      }
    };
    await publish(1, 20);
    const want = (to) => Object.fromEntries(channels.map((c) => [c, numbers(1, to)]));
    equal(await perChannel(source, channels, 20), want(20), 'at first');
    for (const round of [1, 2]) {
      await t.control('cut', { user: t.user });
      await publish(round * 20 + 1, round * 20 + 20);
      const rest = Object.fromEntries(channels.map((c) => [c, numbers(round * 20 + 1, round * 20 + 20)]));
      equal(await perChannel(source, channels, 20), rest, `after break ${round}`);
      await source.seen.next('ready');
    }
    for (const channel of [...channels, 'gap']) source.seen.none(channel);
    equal(source.readyState, 1, 'still open');
  },

  async 'events: a thousand in order'(t) {
    const channel = t.channel('stream');
    const source = t.source([channel]);
    await source.seen.next('ready');
    for (const i of numbers(0, 9)) await t.publish(channel, ...numbers(i * 100 + 1, i * 100 + 100));
    const got = [];
    while (got.length < 1000) got.push(JSON.parse((await source.seen.next('publication')).data));
    equal(got, numbers(1, 1000), 'order');
  },

  async 'events: a gap is an event'(t) {
    const channel = t.channel('stream');
    const source = t.source([channel]);
    await source.seen.next('ready');
    await t.away(async () => {
      for (const i of numbers(0, 3)) await t.publish(channel, ...numbers(i * 100 + 1, i * 100 + 100)); // more than is recovered
    });
    equal(JSON.parse((await source.seen.next('gap')).data), { channel }, 'gap');
    await source.seen.next('ready');
    source.seen.none('publication');
    await t.publish(channel, 'after');
    equal(JSON.parse((await source.seen.next('publication')).data), 'after', 'what comes then');
  },

  async 'events: HTML in many lines'(t) {
    const channel = t.channel('html');
    const source = t.source([channel]);
    await source.seen.next('ready');
    const html = '<tr id="row-1">\n  <td>a &amp; b</td>\n\n  <td>🎺</td>\n</tr>\n';
    await t.control('publish', { channel, raw: html });
    equal((await source.seen.next('publication')).data, html, 'as it is');
  },

  async 'events: who is refused does not come back'(t) {
    const source = t.source([t.channel('closed')]);
    await source.seen.next('error');
    equal(source.readyState, 2, 'closed');
  },

  async 'events: ended by the server, the app decides again'(t) {
    const source = t.source([t.channel('stream')]);
    await source.seen.next('ready');
    await t.control('disconnect', { user: t.user, code: 4000, reason: 'come again' });
    equal(JSON.parse((await source.seen.next('disconnect')).data), { code: 4000, reason: 'come again' }, 'disconnect');
    await source.seen.next('ready');
  },

  async 'moving: events, SDK, poll, at the same position'(t) {
    const channel = t.channel('stream');
    const heard = [];
    const source = t.source([channel]);
    await source.seen.next('ready');
    await t.publish(channel, ...numbers(1, 10));
    let cursor;
    while (heard.length < 7) {
      const e = await source.seen.next('publication');
      heard.push(JSON.parse(e.data));
      cursor = e.id;
    }
    source.close();

    const client = await t.connected();
    await t.publish(channel, ...numbers(11, 20));
    const since = await t.control('position', { channel, cursor });
    const sub = await t.subscribed(client, channel, { since });
    ok(sub.first.recovered, 'recovered by the SDK');
    let last;
    while (heard.length < 20) {
      last = await sub.seen.next('publication');
      heard.push(last.data);
    }
    client.disconnect();

    await t.publish(channel, ...numbers(21, 30));
    ({ cursor } = await t.control('cursor', { channel, epoch: since.epoch, offset: last.offset }));
    const query = new URLSearchParams({ user: t.user, channel, cursor });
    const answer = await (await fetch(`${t.env.base}/realtime/main/poll?${query}`)).json();
    for (const e of answer.events) heard.push(e.data);
    await t.publish(channel, ...numbers(31, 40));
    const again = t.source([channel], { cursor: answer.cursor });
    while (heard.length < 40) heard.push(JSON.parse((await again.seen.next('publication')).data));
    equal(heard, numbers(1, 40), 'everything once, in order');
  },

  async 'poll: a conversation'(t) {
    const channel = t.channel('stream');
    const poll = async (query) => {
      const response = await fetch(`${t.env.base}/realtime/main/poll?${new URLSearchParams({ user: t.user, channel, ...query })}`);
      equal(response.status, 200, 'status');
      return response.json();
    };
    let { cursor, events } = await poll({});
    equal(events, [], 'to begin with');
    const waiting = poll({ cursor, wait: '30s' });
    await t.publish(channel, 1);
    ({ cursor, events } = await waiting);
    equal(events, [{ type: 'publication', channel, data: 1 }], 'as soon as it comes');
    const heard = [1];
    for (const i of numbers(0, 9)) {
      await t.publish(channel, ...numbers(i * 20 + 2, i * 20 + 21));
      while (heard.length < i * 20 + 21) {
        ({ cursor, events } = await poll({ cursor }));
        heard.push(...events.map((e) => e.data));
      }
    }
    equal(heard, numbers(1, 201), 'order');
    for (const i of numbers(0, 3)) await t.publish(channel, ...numbers(i * 100, i * 100 + 99));
    equal((await poll({ cursor })).events, [{ type: 'gap', channel }], 'a gap');
  },
};
