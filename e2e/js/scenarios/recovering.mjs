import { equal, numbers, ok, sleep } from '../harness.mjs';

/** flags picks what a subscribed event says about recovery. */
const flags = (e) => [e.wasRecovering, e.recovered, e.hasRecoveredPublications];

export const recovering = {
  async 'recovery: every subscription of a stream has a position'(t) {
    const channel = t.channel('stream');
    await t.publish(channel, 'a', 'b');
    const client = await t.connected();
    const sub = await t.subscribed(client, channel);
    const { epoch } = await t.control('top', { channel });
    equal(sub.first.streamPosition, { offset: 2, epoch }, 'position');
    equal([sub.first.recoverable, sub.first.positioned, ...flags(sub.first)], [true, true, false, false, false], 'subscribed');
    sub.seen.none('publication');
  },

  async 'recovery: what was missed comes once and in order'(t) {
    const client = await t.connected();
    const sub = await t.subscribed(client, t.channel('stream'));
    await t.publish(sub.channel, 1, 2);
    await sub.seen.data(2);
    await t.away(() => t.publish(sub.channel, ...numbers(3, 12)));
    equal((await client.seen.next('connecting')).code, 1, 'transport closed');
    const back = await sub.seen.next('subscribed');
    equal([...flags(back), back.streamPosition.offset], [true, true, true, 2], 'subscribed, from its own position');
    await t.publish(sub.channel, 13);
    equal(await sub.seen.data(11), numbers(3, 13), 'data');
    equal(sub.seen.all('publication').map((p) => p.offset), numbers(1, 13), 'offsets');
  },

  async 'recovery: nothing missed'(t) {
    const client = await t.connected();
    const sub = await t.subscribed(client, t.channel('stream'));
    await t.control('cut', { user: t.user });
    equal(flags(await sub.seen.next('subscribed')), [true, true, false], 'an empty stream');
    await t.publish(sub.channel, 1);
    await sub.seen.data(1);
    await t.control('cut', { user: t.user });
    equal(flags(await sub.seen.next('subscribed')), [true, true, false], 'at the top');
    await t.publish(sub.channel, 2);
    equal(await sub.seen.data(1), [2], 'live');
  },

  async 'recovery: from a position of the app'(t) {
    const channel = t.channel('stream');
    const { epoch } = await t.publish(channel, ...numbers(1, 5));
    const client = await t.connected();
    const sub = await t.subscribed(client, channel, { since: { offset: 2, epoch } });
    equal(flags(sub.first), [true, true, true], 'subscribed');
    equal(await sub.seen.data(3), [3, 4, 5], 'missed');
    const all = await t.subscribed(await t.connected(), channel, { since: { offset: 0, epoch: '' } });
    equal(await all.seen.data(5), numbers(1, 5), 'from the beginning, any epoch');
  },

  async 'recovery: ten cuts while two hundred messages come'(t) {
    const channel = t.channel('stream');
    const clients = [await t.connected(), await t.connected()];
    const subs = await Promise.all(clients.map((c) => t.subscribed(c, channel)));
    for (let i = 0; i < 100; i++) {
      await t.publish(channel, 2 * i + 1, 2 * i + 2);
      if (i % 10 === 5) await t.control('cut', { user: t.user });
      await sleep(20);
    }
    for (const sub of subs) {
      equal(await sub.seen.data(200), numbers(1, 200), 'data');
      ok(sub.seen.all('subscribed').slice(1).every((e) => e.recovered), 'every return recovered');
      sub.seen.none('publication');
    }
  },

  async 'recovery: history removed'(t) {
    const client = await t.connected();
    const sub = await t.subscribed(client, t.channel('stream'));
    await t.publish(sub.channel, 1);
    await sub.seen.data(1);
    await t.away(async () => {
      await t.publish(sub.channel, 2);
      await t.control('forget', { channel: sub.channel });
    });
    const back = await sub.seen.next('subscribed');
    equal([...flags(back), back.streamPosition.offset], [true, false, false, 2], 'subscribed');
    await t.publish(sub.channel, 3);
    equal(await sub.seen.data(1), [3], 'live from the top');
    await t.control('cut', { user: t.user });
    equal(flags(await sub.seen.next('subscribed')), [true, true, false], 'the new position is good');
  },

  async 'recovery: as many as are kept, and one more'(t) {
    const client = await t.connected();
    const sub = await t.subscribed(client, t.channel('small'));
    await t.away(() => t.publish(sub.channel, ...numbers(1, 5)));
    equal(flags(await sub.seen.next('subscribed')), [true, true, true], 'five');
    equal(await sub.seen.data(5), numbers(1, 5), 'five');
    await t.away(() => t.publish(sub.channel, ...numbers(6, 11)));
    equal(flags(await sub.seen.next('subscribed')), [true, false, false], 'six');
    await t.publish(sub.channel, 12);
    equal(await sub.seen.data(1), [12], 'live from the top');
  },

  async 'recovery: more than one recovery may bring'(t) {
    const client = await t.connected({ node: 'fast' });
    const sub = await t.subscribed(client, t.channel('stream'));
    const publish = (...items) => t.control('publish', { node: 'fast', channel: sub.channel, items });
    await t.away(() => publish(...numbers(1, 20)));
    equal(flags(await sub.seen.next('subscribed')), [true, true, true], 'twenty');
    await sub.seen.data(20);
    await t.away(() => publish(...numbers(21, 41)));
    const back = await sub.seen.next('subscribed');
    equal([...flags(back), back.streamPosition.offset], [true, false, false, 41], 'twenty-one');
  },

  async 'recovery: another epoch, or ahead of the stream'(t) {
    const channel = t.channel('stream');
    const { epoch } = await t.publish(channel, 1);
    for (const since of [{ offset: 1, epoch: 'other' }, { offset: 9, epoch }]) {
      const sub = await t.subscribed(await t.connected(), channel, { since });
      equal(flags(sub.first), [true, false, false], 'subscribed');
      equal(sub.first.streamPosition, { offset: 1, epoch }, 'position');
    }
  },

  async 'recovery: a restarted server tells the truth'(t) {
    const node = 'life';
    const client = await t.connected({ node });
    const sub = await t.subscribed(client, t.channel('stream'));
    await t.control('publish', { node, channel: sub.channel, items: [1, 2] });
    await sub.seen.data(2);
    await t.control('bar', { user: t.user }); // or it might be back before the publications, which it is to miss
    await t.control('stop', { node });
    const again = await client.seen.next('connecting');
    equal([again.code, again.reason], [3001, 'shutdown'], 'connecting');
    await t.control('start', { node });
    await t.control('publish', { node, channel: sub.channel, items: ['one', 'two', 'three'] });
    await t.control('admit', { user: t.user });
    const back = await sub.seen.next('subscribed');
    equal(flags(back), [true, false, false], 'subscribed');
    ok(back.streamPosition.epoch !== sub.first.streamPosition.epoch, 'another epoch');
    await t.control('publish', { node, channel: sub.channel, items: ['live'] });
    equal(await sub.seen.data(1), ['live'], 'data');
  },

  async 'recovery: the app loads its state when there is none'(t) {
    const channel = t.channel('stream');
    const { epoch } = await t.publish(channel, ...numbers(1, 3));
    const positions = [{ offset: 1, epoch: 'lost' }, { offset: 1, epoch }];
    const client = await t.connected();
    const sub = await t.subscribed(client, channel, { getState: async () => positions.shift() });
    equal(positions, [], 'the first position was rejected with 112');
    equal(flags(sub.first), [true, true, true], 'subscribed');
    equal(await sub.seen.data(2), [2, 3], 'data');
  },

  async 'recovery: cache mode brings the newest'(t) {
    const channel = t.channel('cache');
    await t.publish(channel, ...numbers(1, 5));
    const client = await t.connected();
    const sub = await t.subscribed(client, channel, { since: { offset: 1, epoch: 'other' } });
    equal(flags(sub.first), [true, true, true], 'subscribed');
    equal(await sub.seen.data(1), [5], 'the newest');

    await t.away(() => t.publish(channel, ...numbers(6, 9)));
    equal(flags(await sub.seen.next('subscribed')), [true, true, true], 'after four');
    equal(await sub.seen.data(1), [9], 'the newest alone');

    await t.control('cut', { user: t.user });
    equal(flags(await sub.seen.next('subscribed')), [true, true, false], 'after none');
    await t.publish(channel, 10);
    equal(await sub.seen.data(1), [10], 'live');
    sub.seen.none('publication');

    const plain = await t.subscribed(await t.connected(), channel);
    equal(flags(plain.first), [false, false, false], 'without recovery');
    plain.seen.none('publication');
  },

  async 'recovery: cache mode without a newest'(t) {
    const client = await t.connected();
    const sub = await t.subscribed(client, t.channel('cache'));
    await t.away(async () => {
      await t.publish(sub.channel, 1);
      await t.control('forget', { channel: sub.channel });
    });
    equal(flags(await sub.seen.next('subscribed')), [true, false, false], 'subscribed');
  },

  async 'recovery: on request'(t) {
    const channel = t.channel('request');
    const client = await t.connected();
    const other = await t.connected();
    const [plain, asked] = [await t.subscribed(client, channel), await t.subscribed(other, channel, { recoverable: true })];
    equal([plain.first.recoverable, asked.first.recoverable, asked.first.positioned], [false, true, true], 'recoverable');
    await t.publish(channel, 1);
    await asked.seen.data(1);
    await plain.seen.data(1);
    await t.away(() => t.publish(channel, 2));
    await Promise.all([plain.seen.next('subscribed'), asked.seen.next('subscribed')]);
    await t.publish(channel, 3);
    equal(await asked.seen.data(2), [2, 3], 'asked');
    equal(await plain.seen.data(1), [3], 'not asked');
  },

  async 'recovery: off'(t) {
    const client = await t.connected();
    const sub = await t.subscribed(client, t.channel('off'), { recoverable: true, positioned: true });
    equal(sub.first.recoverable, false, 'recoverable');
    await t.away(() => t.publish(sub.channel, 1));
    equal((await sub.seen.next('subscribed')).recovered, false, 'recovered');
    await t.publish(sub.channel, 2);
    equal(await sub.seen.data(1), [2], 'live alone');
  },

  async 'gap: repaired from history before anyone notices'(t) {
    const channel = t.channel('stream');
    const client = await t.connected();
    const subs = [await t.subscribed(client, channel), await t.subscribed(await t.connected(), channel)];
    await t.publish(channel, 1);
    await t.control('lose', { channel, count: 3 });
    await t.publish(channel, ...numbers(2, 8));
    for (const sub of subs) {
      equal(await sub.seen.data(8), numbers(1, 8), 'data');
      sub.seen.none('subscribing');
    }
  },

  async 'gap: the last publication is found missing, too'(t) {
    const client = await t.connected();
    const sub = await t.subscribed(client, t.channel('stream'));
    await t.control('lose', { channel: sub.channel, count: 1 });
    await t.publish(sub.channel, 1);
    equal(await sub.seen.data(1), [1], 'data');
    sub.seen.none('subscribing');
  },

  async 'gap: beyond repair, the client is told'(t) {
    const node = 'trusting'; // which does not repair the gap before its history is removed
    const client = await t.connected({ node });
    const sub = await t.subscribed(client, t.channel('stream'));
    const publish = (item) => t.control('publish', { node, channel: sub.channel, items: [item] });
    await publish(1);
    await sub.seen.data(1);
    await t.control('lose', { channel: sub.channel, count: 1 });
    await publish(2);
    await t.control('forget', { node, channel: sub.channel });
    await publish(3);
    const again = await sub.seen.next('subscribing');
    equal([again.code, again.reason], [2500, 'insufficient state'], 'subscribing');
    const back = await sub.seen.next('subscribed');
    equal([...flags(back), back.streamPosition.offset], [true, false, false, 3], 'subscribed');
    sub.seen.none('publication');
    await publish(4);
    equal(await sub.seen.data(1), [4], 'live');
    client.seen.none('connecting');
  },
};
