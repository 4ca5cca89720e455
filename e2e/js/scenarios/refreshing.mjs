import { equal, ok, sleep } from '../harness.mjs';

/** outlived is longer than a life of one second and the grace of the node "main", from the refresh at the end of that second on. */
const outlived = 3500;

/** tokens returns a getToken that hands out these, and repeats the last. */
const tokens = (...list) => async () => (list.length > 1 ? list.shift() : list[0]);

export const refreshing = {
  async 'refresh: the connection lives on'(t) {
    const client = await t.connected({ token: 'good:1000', getToken: tokens('good:60000') });
    await t.eventually('a refresh', async () => (await t.control('diary', { user: t.user })).refreshes);
    await sleep(outlived);
    client.seen.none('connecting');
    equal((await t.control('diary', { user: t.user })).refreshes, ['good:60000'], 'refreshes');
  },

  async 'refresh: to a token that never expires'(t) {
    const client = await t.connected({ token: 'good:1000', getToken: tokens('good') });
    await t.eventually('a refresh', async () => (await t.control('diary', { user: t.user })).refreshes);
    await sleep(outlived);
    client.seen.none('connecting');
  },

  async 'refresh: refused as expired, then a new connection'(t) {
    const client = await t.connected({ token: 'good:1000', getToken: tokens('past', 'good:60000') });
    const again = await client.seen.next('connecting');
    equal([again.code, again.reason], [3005, 'connection expired'], 'connecting');
  },

  async 'refresh: a connection that can not be refreshed expires'(t) {
    const client = await t.connected({ node: 'fast', data: { ttl: 1000 } });
    const again = await client.seen.next('connecting');
    equal([again.code, again.reason], [3005, 'connection expired'], 'connecting');
    await client.seen.next('connected');
  },

  async 'refresh: by the server'(t) {
    const client = await t.connected({ node: 'fast', data: { ttl: 4000 } });
    await t.control('refresh', { node: 'fast', user: t.user, ttl: 60_000 });
    await sleep(4500);
    client.seen.none('connecting');
    await t.control('refresh', { node: 'fast', user: t.user, ttl: -1000 });
    equal((await client.seen.next('connecting')).code, 3005, 'expired by the server');
  },

  async 'sub refresh: the subscription lives on'(t) {
    const client = await t.connected();
    const sub = await t.subscribed(client, t.channel('token'), { token: 'good:1000', getToken: tokens('good:60000') });
    await t.eventually('a refresh', async () => (await t.control('diary', { user: t.user })).subRefreshes);
    await sleep(outlived);
    sub.seen.none('subscribing');
    equal((await t.control('diary', { user: t.user })).subRefreshes, ['good:60000'], 'refreshes');
  },

  async 'sub refresh: token expired at subscribe, then a new one'(t) {
    const client = await t.connected();
    let asked = 0;
    const getToken = async () => (asked++, 'good');
    const sub = await t.subscribed(client, t.channel('token'), { token: 'expired', getToken });
    equal(asked, 1, 'tokens asked for');
    equal(sub.seen.all('error').map((e) => e.error.code), [109], 'errors on the way');
  },

  async 'sub refresh: a subscription that can not be refreshed expires'(t) {
    const client = await t.connected();
    const sub = await t.subscribed(client, t.channel('hook'), { data: { ttl: 1000 } });
    const again = await sub.seen.next('subscribing');
    equal([again.code, again.reason], [2501, 'subscription expired'], 'subscribing');
    await sub.seen.next('subscribed');
    client.seen.none('connecting');
  },

  async 'sub refresh: refused'(t) {
    const client = await t.connected();
    const sub = await t.subscribed(client, t.channel('token'), { token: 'good:1000', getToken: tokens('garbage') });
    const end = await client.seen.next('disconnected');
    equal([end.code, end.reason], [3500, 'invalid token'], 'disconnected');
    ok(sub.state !== 'subscribed', 'state of the subscription');
  },
};
