import { equal, numbers, ok, rejects } from '../harness.mjs';

export const messaging = {
  async 'publish: by a client'(t) {
    const channel = t.channel('stream');
    const ann = await t.connected({ data: { info: { name: 'Ann' } } });
    const bob = await t.connected({ user: `${t.user}-bob` });
    const [his, hers] = [await t.subscribed(bob, channel), await t.subscribed(ann, channel)];
    await hers.publish({ text: 'hi' });
    const info = { user: t.user, client: ann.hello.client, connInfo: { name: 'Ann' } };
    for (const sub of [his, hers]) {
      const pub = await sub.seen.next('publication');
      equal([pub.channel, pub.data, pub.info, pub.offset], [channel, { text: 'hi' }, info, 1], 'publication');
    }
    await (await t.connected()).publish(channel, 'not subscribed');
    equal(await his.seen.data(1), ['not subscribed'], 'from a client that is not subscribed');
  },

  async 'publish: all kinds of JSON, byte for byte'(t) {
    const client = await t.connected();
    const sub = await t.subscribed(client, t.channel('stream'));
    const values = [0, false, '', [], {}, -1.5e-7, 'a\nb\tc"d\\', '\u2028 </script> 🎺 \u0000', [[[null]]], { ключ: { 值: 1 } }];
    for (const value of values) await sub.publish(value);
    equal(await sub.seen.data(values.length), values, 'by the client');
    await t.publish(sub.channel, ...values);
    equal(await sub.seen.data(values.length), values, 'by the server');
    await t.control('publish', { channel: sub.channel, raw: '{\n  "pretty": [\r\n\t1,\n2 ]\n}\n' });
    equal(await sub.seen.data(1), [{ pretty: [1, 2] }], 'with line feeds between tokens');
  },

  async 'publish: large'(t) {
    const client = await t.connected();
    const sub = await t.subscribed(client, t.channel('stream'));
    const large = 'x'.repeat(60_000);
    await sub.publish(large);
    equal(await sub.seen.data(1), [large], 'by the client');
    const larger = 'ü'.repeat(100_000);
    await t.publish(sub.channel, larger);
    equal(await sub.seen.data(1), [larger], 'by the server');
    const refused = await rejects(t.publish(sub.channel, 'x'.repeat(300_000)), undefined, 'over the limit');
    ok(/too large/.test(refused.message), `the app is told: ${refused.message}`);
    sub.publish('x'.repeat(70_000)).catch(() => {});
    equal((await client.seen.next('disconnected')).code, 3, 'a frame over the limit: message size limit');
  },

  async 'publish: over a compressed connection'(t) {
    let extensions;
    class Asking extends t.env.WebSocket {
      constructor(...args) {
        super(...args);
        this.addEventListener('open', () => (extensions = this.extensions));
      }
    }
    const client = await t.connected({ node: 'packed', websocket: Asking });
    ok(/permessage-deflate/.test(JSON.stringify(extensions) + String(extensions)), `extensions: ${extensions}`);
    const sub = await t.subscribed(client, t.channel('stream'));
    const values = [1, 'x'.repeat(60_000), { a: numbers(1, 2000) }, '', 'last'];
    for (const value of values) await sub.publish(value);
    equal(await sub.seen.data(values.length), values, 'by the client');
    await t.control('publish', { node: 'packed', channel: sub.channel, items: values });
    equal(await sub.seen.data(values.length), values, 'by the server');
  },

  async 'publish: not JSON is refused'(t) {
    const client = await t.connected();
    const sub = await t.subscribed(client, t.channel('stream'));
    for (const raw of ['', '{', '{"a":1} trailing', 'nope']) {
      await rejects(t.control('publish', { channel: sub.channel, raw }), undefined, raw);
    }
    await t.publish(sub.channel, 'fine');
    equal((await sub.seen.next('publication')).offset, 1, 'offset of the first that is JSON');
    client.seen.none('connecting');
  },

  async 'publish: five hundred in order'(t) {
    const channel = t.channel('stream');
    const subs = [];
    for (let i = 0; i < 4; i++) subs.push(await t.subscribed(await t.connected(), channel));
    for (let i = 0; i < 10; i++) await t.publish(channel, ...numbers(i * 50 + 1, i * 50 + 50));
    for (const sub of subs) {
      equal(await sub.seen.data(500), numbers(1, 500), 'data');
      equal(sub.seen.all('publication').map((p) => p.offset), numbers(1, 500), 'offsets');
    }
  },

  async 'publish: two clients at once see one order'(t) {
    const channel = t.channel('stream');
    const clients = [await t.connected(), await t.connected()];
    const subs = await Promise.all(clients.map((c) => t.subscribed(c, channel)));
    await Promise.all(clients.flatMap((c, who) => numbers(1, 50).map((i) => c.publish(channel, [who, i]))));
    const [one, two] = await Promise.all(subs.map((sub) => sub.seen.data(100)));
    equal(one, two, 'order');
    for (const who of [0, 1]) {
      const own = one.filter((d) => d[0] === who).map((d) => d[1]);
      // Requests that a client makes at once may overtake each other on their way.
      if (t.env.door !== 'websocket') own.sort((a, b) => a - b);
      equal(own, numbers(1, 50), `those of client ${who}`);
    }
  },

  async 'publish: tags and idempotency key'(t) {
    const client = await t.connected();
    const sub = await t.subscribed(client, t.channel('stream'));
    const order = { channel: sub.channel, items: [1], tags: { lang: 'de', kind: 'note' }, key: 'once' };
    const first = await t.control('publish', order);
    equal(await t.control('publish', order), first, 'position of the repeat');
    await t.publish(sub.channel, 2);
    const [one, two] = [await sub.seen.next('publication'), await sub.seen.next('publication')];
    equal([one.data, one.tags], [1, order.tags], 'the first');
    equal([two.data, two.tags, two.offset], [2, undefined, 2], 'the next');
  },

  async 'publish: permission'(t) {
    const client = await t.connected();
    await rejects(client.publish(t.channel('public'), 1), 103, 'channel that only the app publishes to');
    await rejects(client.publish(t.channel('undeclared'), 1), 102, 'undeclared channel');
    await rejects(client.publish(t.channel('members'), 1), 103, 'not a subscriber');
    const sub = await t.subscribed(client, t.channel('members'));
    await sub.publish(1);
    const anonymous = await t.connected({ user: '' });
    await rejects(anonymous.publish(t.channel('users'), 1), 103, 'anonymous');
    await client.publish(t.channel('users'), 1);
    const undeclared = await rejects(t.publish(t.channel('undeclared'), 1), undefined, 'by the app');
    ok(/unknown channel/.test(undeclared.message), `the app is told of a typo: ${undeclared.message}`);
  },

  async 'publish: decided by a hook'(t) {
    const client = await t.connected();
    const sub = await t.subscribed(client, t.channel('guard'));
    await rejects(sub.publish({ fail: { error: 103, message: 'permission denied' } }), 103, 'refused');
    await rejects(sub.publish({ fail: { error: 1500, message: 'too rude' } }), 1500, 'refused with a code of the app');
    await sub.publish({ handle: true });
    await sub.publish({ replace: { clean: true } });
    await sub.publish({ as: 'it is' });
    equal(await sub.seen.data(2), [{ clean: true }, { as: 'it is' }], 'publications');
  },

  async 'publish: text'(t) {
    const client = await t.connected();
    const sub = await t.subscribed(client, t.channel('text'));
    const html = '<p class="x">\n  “ü” & \\ 🎺\n</p>';
    await t.control('publish', { channel: sub.channel, raw: html });
    await sub.publish(html);
    equal(await sub.seen.data(2), [html, html], 'publications');
    if (t.env.encoding === 'json') await rejects(sub.publish({ not: 'text' }), 107, 'what is not a string');
  },

  async 'history'(t) {
    const client = await t.connected();
    const sub = await t.subscribed(client, t.channel('stream'));
    const fresh = await sub.history({ limit: 10 });
    equal([fresh.publications, fresh.offset], [[], 0], 'of a new channel');
    ok(fresh.epoch.length > 0, 'a new channel has an epoch');
    equal(fresh.epoch, sub.first.streamPosition.epoch, 'epoch');
    await t.publish(sub.channel, ...numbers(1, 10));
    const { epoch } = fresh;
    const read = async (options) => {
      const h = await sub.history(options);
      equal([h.offset, h.epoch], [10, epoch], 'the top');
      equal(h.publications.map((p) => p.data), h.publications.map((p) => p.offset), 'offsets');
      return h.publications.map((p) => p.data);
    };
    equal(await read({}), [], 'the top alone');
    equal(await read({ limit: 3 }), [1, 2, 3], 'the first');
    equal(await read({ limit: -1 }), numbers(1, 10), 'all');
    equal(await read({ limit: 3, reverse: true }), [10, 9, 8], 'the last');
    equal(await read({ limit: 3, since: { offset: 4, epoch } }), [5, 6, 7], 'since');
    equal(await read({ limit: 3, since: { offset: 4, epoch: '' } }), [5, 6, 7], 'since, any epoch');
    equal(await read({ limit: 9, since: { offset: 4, epoch }, reverse: true }), [3, 2, 1], 'before');
    equal(await read({ limit: 9, since: { offset: 10, epoch } }), [], 'since the top');
    equal(await read({ limit: 9, since: { offset: 99, epoch } }), [], 'beyond the top');
  },

  async 'history: publications are whole'(t) {
    const client = await t.connected({ data: { info: { name: 'Ann' } } });
    const channel = t.channel('stream');
    await client.publish(channel, { by: 'a client' });
    await t.control('publish', { channel, items: [{ by: 'the app' }], tags: { k: 'v' } });
    const { publications } = await client.history(channel, { limit: 2 });
    const info = { user: t.user, client: client.hello.client, connInfo: { name: 'Ann' } };
    equal(publications.map((p) => [p.data, p.info, p.tags]), [
      [{ by: 'a client' }, info, undefined],
      [{ by: 'the app' }, undefined, { k: 'v' }],
    ], 'publications');
  },

  async 'history: trimmed and removed'(t) {
    const client = await t.connected({ user: `staff-${t.id}` });
    const channel = t.channel('guard');
    await t.publish(channel, ...numbers(1, 3));
    await t.control('forget', { channel });
    const removed = await client.history(channel, { limit: -1 });
    equal([removed.publications, removed.offset], [[], 3], 'removed');
    await t.publish(channel, 4);
    const { publications } = await client.history(channel, { limit: 9, since: { offset: 1, epoch: removed.epoch } });
    equal(publications.map((p) => p.offset), [4], 'from the oldest that is kept');
  },

  async 'history: errors'(t) {
    const client = await t.connected();
    const channel = t.channel('stream');
    await t.publish(channel, 1);
    await rejects(client.history(channel, { limit: 1, since: { offset: 0, epoch: 'other' } }), 112, 'another epoch');
    await rejects(client.history(channel, { limit: 1, since: { offset: 0, epoch: '' }, reverse: true }), 107, 'before the first');
    await rejects(client.history(t.channel('public'), { limit: 1 }), 108, 'no history');
    await rejects(client.history(t.channel('small'), { limit: 1 }), 103, 'no permission');
    await rejects(client.history(t.channel('guard'), { limit: 1 }), 103, 'refused by the hook');
    await rejects(client.history(t.channel('undeclared'), { limit: 1 }), 102, 'undeclared');
  },

  async 'history: at most three hundred at once'(t) {
    const client = await t.connected();
    const channel = t.channel('stream');
    await t.publish(channel, ...numbers(1, 310));
    for (const limit of [-1, 1000]) {
      const { publications, offset } = await client.history(channel, { limit });
      equal([publications.length, offset], [300, 310], `limit ${limit}`);
    }
  },
};
