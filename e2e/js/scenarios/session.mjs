// Users with a session of the app, by cookie where there are cookies, and no token.
import { equal, ok, sleep } from '../harness.mjs';

const node = 'session';
const inBrowser = () => Boolean(globalThis.document);

const diary = async (t) => (await t.control('diary', { user: t.user })) ?? {};

/** login makes this browser's requests those of the user's session, by a cookie that scripts do not see. */
async function login(t) {
  await t.control('login', { user: t.user });
  if (inBrowser()) ok(!document.cookie.includes(t.user), 'scripts see the cookie');
}

/** endedOnce checks that the app has seen these connects and sees no further one, longer than any delay of reconnecting here. */
async function endedOnce(t, connects) {
  await sleep(1500);
  equal((await diary(t)).connects, Array(connects).fill(inBrowser()), 'connects, by cookie or not');
}

export const session = {
  async 'session: without getToken it outlives expiries that the server prolongs'(t) {
    await login(t);
    const client = await t.connected({ node, data: { ttl: 1000 } });
    const sub = await t.subscribed(client, t.channel('prolonged'), { data: { ttl: 1000 } });
    const often = (list) => list?.length >= 3;
    const seen = await t.eventually('three of each', async () => {
      const d = await diary(t);
      return often(d.refreshes) && often(d.subRefreshes) && often(d.checks) && d;
    });
    for (const kind of ['connecting', 'disconnected', 'error']) client.seen.none(kind);
    for (const kind of ['subscribing', 'unsubscribed', 'error']) sub.seen.none(kind);
    ok(seen.refreshes.every((token) => token === ''), `refreshes: ${JSON.stringify(seen.refreshes)}`);
    ok(seen.subRefreshes.every((token) => token === ''), `of the subscription: ${JSON.stringify(seen.subRefreshes)}`);
    ok(seen.checks.every((byCookie) => byCookie === inBrowser()), `checks: ${JSON.stringify(seen.checks)}`);
    equal(seen.connects.length, 1, 'connects');
  },

  async 'session: that ends is the end within the interval, once'(t) {
    await login(t);
    const client = await t.connected({ node });
    await t.subscribed(client, t.channel('public'));
    await t.eventually('a check', async () => (await diary(t)).checks?.length);
    const before = performance.now();
    await t.control('end_session', { user: t.user });
    const end = await client.seen.next('disconnected');
    equal([end.code, end.reason], [3500, 'invalid token'], 'disconnected');
    const took = performance.now() - before;
    ok(took < 5000, `it took ${took} ms, of an interval of 1000, on a busy machine`);
    await endedOnce(t, 1);
    client.connect();
    equal((await client.seen.next('disconnected')).code, 101, 'who comes back is refused');
    await endedOnce(t, 2);
  },

  async 'session: logout ends every socket, once'(t) {
    await login(t);
    const tabs = [await t.connected({ node })];
    if (!inBrowser() || t.env.door === 'websocket') tabs.push(await t.connected({ node })); // a browser has six connections for streams
    await t.control('end_session', { user: t.user });
    await t.control('disconnect', { node, user: t.user });
    for (const tab of tabs) {
      const { code } = await tab.seen.next('disconnected');
      ok(code === 3503 || code === 3500, `disconnected with ${code}`); // a check may have come first
    }
    await endedOnce(t, tabs.length);
  },
};

export const plainSession = {
  async 'session: an EventSource ends with it'(t) {
    await login(t);
    const source = t.source([t.channel('public')], {}, [], node);
    await source.seen.next('ready');
    await t.control('end_session', { user: t.user });
    equal(JSON.parse((await source.seen.next('disconnect')).data), { code: 3500, reason: 'invalid token' }, 'disconnect');
    await t.eventually('the source to give up', () => source.readyState === 2);
    await endedOnce(t, 2); // it comes back by itself, and is refused
  },
};
