import { equal, numbers, ok } from '../harness.mjs';

/** The node "limited" allows little: see limitedConfig of the server. */
export const limits = {
  async 'limits: subscribes over the rate are tried again until they are in'(t) {
    const client = await t.connected({ node: 'limited' });
    // Those that were refused come again when there is room for as many.
    const patient = { minResubscribeDelay: 600, maxResubscribeDelay: 1200 };
    const subs = numbers(1, 12).map((i) => t.subscription(client, t.channel('public', `-${i}`), patient));
    client.startBatching(); // requests of their own might come so slowly that none is over the rate
    for (const sub of subs) sub.subscribe();
    client.stopBatching();
    for (const sub of subs) await sub.seen.next('subscribed');
    const codes = subs.flatMap((sub) => sub.seen.all('error').map((e) => e.error.code));
    ok(codes.length >= 1, 'some were refused at first');
    equal([...new Set(codes)], [111], 'errors on the way');
    equal(client.seen.all('connecting').length, 1, 'times it connected');
  },

  async 'limits: who goes on regardless is sent away, and comes back'(t) {
    const client = await t.connected({ node: 'limited' });
    const calls = numbers(1, 120).map((i) => client.rpc('echo', i).then(() => 'ok', (err) => err.code));
    const away = await client.seen.next('connecting');
    equal([away.code, away.reason], [3013, 'too many requests'], 'sent away');
    const outcomes = await Promise.all(calls);
    const count = (outcome) => outcomes.filter((o) => o === outcome).length;
    ok(count('ok') >= 40, `calls within the burst: ${outcomes}`);
    ok(count(111) >= 40, `calls that were refused: ${outcomes}`);
    await client.seen.next('connected');
    equal((await client.rpc('echo', 1)).data, 1, 'the connection goes on');
  },

  async 'limits: one connection too many is refused for good'(t) {
    const first = await t.connected({ node: 'limited' });
    await t.connected({ node: 'limited' });
    const third = t.client({ node: 'limited' });
    third.connect();
    const end = await third.seen.next('disconnected');
    equal([end.code, end.reason], [3504, 'connection limit'], 'disconnected');
    equal((await first.rpc('echo', 1)).data, 1, 'the others go on');
    first.disconnect();
    await t.eventually('room for another', async () => {
      const next = t.client({ node: 'limited' });
      next.connect();
      return Promise.race([next.seen.next('connected').then(() => true), next.seen.next('disconnected').then(() => false)]);
    });
  },
};
