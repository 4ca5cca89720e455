import { equal, ok } from '../harness.mjs';

/** terminal expects the SDK to stay away after this code. */
async function terminal(t, order, code, reason) {
  const client = await t.connected();
  await t.control('disconnect', { user: t.user, ...order });
  const end = await client.seen.next('disconnected');
  equal([end.code, end.reason], [code, reason], 'disconnected');
  client.seen.none('connecting');
}

/** temporary expects the SDK to come back after this code. */
async function temporary(t, order, code, reason) {
  const client = await t.connected();
  await t.control('disconnect', { user: t.user, ...order });
  const again = await client.seen.next('connecting');
  equal([again.code, again.reason], [code, reason], 'connecting');
  const back = await client.seen.next('connected');
  ok(back.client !== client.hello.client, 'a new connection');
}

export const disconnecting = {
  'disconnect: by default for good': (t) => terminal(t, {}, 3503, 'force disconnect'),
  'disconnect: 3507 for good': (t) => terminal(t, { code: 3507, reason: 'permission denied' }, 3507, 'permission denied'),
  'disconnect: 4500 of the app for good': (t) => terminal(t, { code: 4500, reason: 'banned ⛔' }, 4500, 'banned ⛔'),
  'disconnect: 3001 comes back': (t) => temporary(t, { code: 3001, reason: 'shutdown' }, 3001, 'shutdown'),
  'disconnect: 3011 comes back': (t) => temporary(t, { code: 3011, reason: 'force reconnect' }, 3011, 'force reconnect'),
  'disconnect: 4000 of the app comes back': (t) => temporary(t, { code: 4000, reason: 'new version' }, 4000, 'new version'),

  async 'disconnect: reasons that the SDK would misread'(t) {
    for (const reason of ['', '123', '{"reason":"x","reconnect":true}', 'é'.repeat(100)]) {
      const client = await t.connected();
      await t.control('disconnect', { user: t.user, code: 3501, reason });
      const end = await client.seen.next('disconnected');
      equal(end.code, 3501, `code with reason ${reason}`);
      const bytes = new TextEncoder().encode(end.reason).length;
      ok(bytes > 0 && bytes <= 123 && !end.reason.includes('\ufffd'), `reason of ${bytes} bytes: ${end.reason}`);
    }
  },

  async 'disconnect: all connections of the user, and only those'(t) {
    const own = [await t.connected(), await t.connected()];
    const other = await t.connected({ user: `${t.user}-other` });
    const anonymous = await t.connected({ user: '' });
    await t.control('disconnect', { user: t.user });
    for (const client of own) await client.seen.next('disconnected');
    for (const client of [other, anonymous]) {
      await client.rpc('echo', 0);
      client.seen.none('disconnected');
    }
    const { disconnects } = await t.eventually('the app is told of each', async () => {
      const diary = await t.control('diary', { user: t.user });
      return diary.disconnects?.length === 2 && diary;
    });
    equal(disconnects, [3503, 3503], 'codes that the app was told');
  },

  async 'disconnect: queued messages come before the close'(t) {
    const client = await t.connected();
    const sub = await t.subscribed(client, t.channel('stream'));
    await t.publish(sub.channel, ...Array.from({ length: 50 }, (_, i) => i));
    if (t.env.expect === 'cluster') { // there publications and orders have ways of their own to a node
      await t.eventually('the node has them', async () => (await t.control('handed', { channel: sub.channel })) === 50);
    }
    await t.control('disconnect', { user: t.user, code: 4500, reason: 'after these' });
    await client.seen.next('disconnected');
    equal(sub.seen.all('publication').length, 50, 'publications');
  },
};
