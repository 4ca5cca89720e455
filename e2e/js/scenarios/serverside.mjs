import { equal, numbers, rejects } from '../harness.mjs';

export const serverside = {
  async 'server-side: subscribed at connect'(t) {
    const [stream, closed] = [t.channel('stream'), t.channel('closed')];
    const client = await t.connected({ data: { subs: { [stream]: { reply: { seat: 7 } }, [closed]: {} } } });
    const events = [await client.seen.next('subscribed'), await client.seen.next('subscribed')];
    const by = Object.fromEntries(events.map((e) => [e.channel, e]));
    equal([by[stream].data, by[stream].recoverable, by[stream].positioned], [{ seat: 7 }, true, true], 'stream');
    equal([by[closed].recoverable, by[closed].wasRecovering], [false, false], 'a channel that clients may not subscribe to');
    await t.publish(stream, 'a');
    await t.publish(closed, 'b');
    const got = [await client.seen.next('publication'), await client.seen.next('publication')];
    equal(got.map((p) => [p.channel, p.data]).sort(), [[closed, 'b'], [stream, 'a']].sort(), 'publications');
    equal((await client.presenceStats(stream)).numClients, 1, 'presence');
  },

  async 'server-side: to an undeclared channel fails the connect'(t) {
    const client = t.client({ data: { subs: { [t.channel('undeclared')]: {} } } });
    client.connect();
    const end = await client.seen.next('disconnected');
    equal([end.code, end.reason], [102, 'unknown channel'], 'disconnected');
  },

  async 'server-side: recovered across a reconnect'(t) {
    const channel = t.channel('stream');
    const client = await t.connected({ data: { subs: { [channel]: {} } } });
    await client.seen.next('subscribed');
    await t.publish(channel, 1, 2);
    equal(await client.seen.data(2), [1, 2], 'live');
    await t.away(() => t.publish(channel, ...numbers(3, 7)));
    await client.seen.next('connected');
    const back = await client.seen.next('subscribed');
    equal([back.wasRecovering, back.recovered], [true, true], 'subscribed');
    await t.publish(channel, 8);
    equal(await client.seen.data(6), numbers(3, 8), 'missed and live');

    await t.away(async () => {
      await t.publish(channel, 9);
      await t.control('forget', { channel });
    });
    const lost = await client.seen.next('subscribed');
    equal([lost.wasRecovering, lost.recovered], [true, false], 'history removed');
    client.seen.none('publication');
  },

  async 'server-side: at runtime'(t) {
    const channel = t.channel('stream');
    const client = await t.connected();
    await t.publish(channel, 0);
    await t.control('subscribe', { user: t.user, channel, script: { reply: { until: 'noon' }, info: { vip: true } } });
    const on = await client.seen.next('subscribed');
    const { epoch } = await t.control('top', { channel });
    equal([on.channel, on.data, on.recoverable, on.streamPosition], [channel, { until: 'noon' }, true, { offset: 1, epoch }], 'subscribed');
    await t.publish(channel, 1);
    equal(await client.seen.data(1), [1], 'publication');
    const { clients } = await client.presence(channel);
    equal(Object.values(clients).map((c) => c.chanInfo), [{ vip: true }], 'presence');

    await t.control('unsubscribe', { user: t.user, channel });
    equal((await client.seen.next('unsubscribed')).channel, channel, 'unsubscribed');
    await t.publish(channel, 2);
    await client.rpc('echo', 0);
    client.seen.none('publication');
    equal((await client.presenceStats(channel)).numClients, 0, 'presence afterwards');
  },

  async 'server-side: all connections of the user, and only those'(t) {
    const channel = t.channel('public');
    const own = [await t.connected(), await t.connected()];
    const other = await t.connected({ user: `${t.user}-other` });
    await t.control('subscribe', { user: t.user, channel });
    for (const client of own) await client.seen.next('subscribed');
    await t.publish(channel, 'x');
    for (const client of own) equal(await client.seen.data(1), ['x'], 'publication');
    await other.rpc('echo', 0);
    other.seen.none('subscribed');
    await rejects(t.control('subscribe', { user: t.user, channel: t.channel('undeclared') }), undefined, 'undeclared');
  },

  async 'server-side: gone after a reconnect when made at runtime'(t) {
    const channel = t.channel('stream');
    const client = await t.connected();
    await t.control('subscribe', { user: t.user, channel });
    await client.seen.next('subscribed');
    await t.control('cut', { user: t.user });
    equal((await client.seen.next('unsubscribed')).channel, channel, 'unsubscribed');
    await client.seen.next('connected');
  },

  async 'server-side: joins and leaves'(t) {
    const channel = t.channel('force');
    const ann = await t.connected({ data: { subs: { [channel]: {} } } });
    equal((await ann.seen.next('join')).info.client, ann.hello.client, 'its own join');
    const bob = await t.connected({ user: `${t.user}-bob`, data: { subs: { [channel]: { info: { seat: 2 } } } } });
    const join = await ann.seen.next('join');
    equal([join.channel, join.info], [channel, { user: `${t.user}-bob`, client: bob.hello.client, chanInfo: { seat: 2 } }], 'join');
    bob.disconnect();
    equal((await ann.seen.next('leave')).info.client, bob.hello.client, 'leave');
  },

  async 'server-side: a client can not subscribe as well'(t) {
    const channel = t.channel('stream');
    const client = await t.connected({ data: { subs: { [channel]: {} } } });
    await client.seen.next('subscribed');
    const sub = t.subscription(client, channel);
    sub.subscribe();
    equal((await sub.seen.next('unsubscribed')).code, 105, 'already subscribed');
  },

  async 'server-side: a gap beyond repair reconnects'(t) {
    const channel = t.channel('stream');
    const node = 'trusting'; // which does not repair the gap before its history is removed
    const client = await t.connected({ node, data: { subs: { [channel]: {} } } });
    await client.seen.next('subscribed');
    await t.control('lose', { channel, count: 1 });
    await t.control('publish', { node, channel, items: [1] });
    await t.control('forget', { node, channel });
    await t.control('publish', { node, channel, items: [2] });
    const again = await client.seen.next('connecting');
    equal([again.code, again.reason], [3010, 'insufficient state'], 'connecting');
    const back = await client.seen.next('subscribed');
    equal([back.wasRecovering, back.recovered], [true, false], 'subscribed');
  },

  async 'server-side: expired'(t) {
    const channel = t.channel('public');
    const client = await t.connected({ data: { subs: { [channel]: { ttl: 1000 } } } });
    const again = await client.seen.next('connecting');
    equal([again.code, again.reason], [3006, 'subscription expired'], 'connecting');
  },
};
