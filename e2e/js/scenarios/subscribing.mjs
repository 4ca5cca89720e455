import { equal, numbers, ok, rejects } from '../harness.mjs';

/** refused subscribes and returns the terminal event's code and reason. */
async function refused(t, client, channel, options) {
  const sub = t.subscription(client, channel, options);
  sub.subscribe();
  const { code, reason } = await sub.seen.next('unsubscribed');
  return [code, reason];
}

export const subscribing = {
  async 'subscribe: public channel'(t) {
    const client = await t.connected();
    const sub = await t.subscribed(client, t.channel('public'));
    const { recoverable, positioned, wasRecovering, recovered, data } = sub.first;
    equal([recoverable, positioned, wasRecovering, recovered, data], [false, false, false, false, undefined], 'subscribed');
  },

  async 'subscribe: permitted by a hook'(t) {
    const client = await t.connected();
    const channel = t.channel('hook');
    const sub = await t.subscribed(client, channel);
    equal(sub.first.data, { id: t.id, state: t.user }, 'the hook saw the parameter and the state');

    const other = await t.connected();
    const told = await t.subscribed(other, channel, { data: { reply: [1, 2], info: { role: 'admin' } } });
    equal(told.first.data, [1, 2], 'data');
    const { clients } = await sub.presence();
    equal(clients[other.hello.client].chanInfo, { role: 'admin' }, 'chanInfo');
  },

  async 'subscribe: refused'(t) {
    const client = await t.connected();
    equal(await refused(t, client, t.channel('closed')), [103, 'permission denied'], 'no hook');
    const data = (fail) => ({ data: { fail } });
    const hook = (fail, suffix) => refused(t, client, t.channel('hook', suffix), data(fail));
    equal(await hook({ error: 103, message: 'permission denied' }, 'a'), [103, 'permission denied'], 'hook');
    equal(await hook({ error: 1999, message: 'pay first' }, 'b'), [1999, 'pay first'], 'code of the app');
    equal(await refused(t, client, t.channel('undeclared')), [102, 'unknown channel'], 'undeclared');
    equal(await refused(t, client, t.channel('public', 'x'.repeat(255))), [107, 'bad request'], 'too long a name');
    if (t.env.encoding === 'json') {
      equal(await refused(t, client, t.channel('binary')), [108, 'not available'], 'binary payload on a JSON connection');
    }
    equal((await client.rpc('echo', 1)).data, 1, 'the connection goes on');
    client.seen.none('connecting');
  },

  async 'subscribe: refused with a disconnect'(t) {
    const client = await t.connected();
    const sub = t.subscription(client, t.channel('hook'), { data: { fail: { disconnect: 4999, message: 'enough' } } });
    sub.subscribe();
    const end = await client.seen.next('disconnected');
    equal([end.code, end.reason], [4999, 'enough'], 'disconnected');
  },

  async 'subscribe: trouble of the server is tried again'(t) {
    const client = await t.connected();
    const sub = await t.subscribed(client, t.channel('hook'), { data: { fail: { other: true, times: 2 } } });
    equal(sub.seen.all('error').map((e) => e.error.code), [100, 100], 'errors on the way');
  },

  async 'subscribe: a hundred in the frame of the connect'(t) {
    const client = t.client();
    const subs = numbers(1, 100).map((i) => t.subscription(client, t.channel(i % 2 ? 'stream' : 'hook', `-${i}`)));
    for (const sub of subs) sub.subscribe();
    client.connect();
    await Promise.all(subs.map((sub) => sub.seen.next('subscribed')));
    await Promise.all(subs.filter((_, i) => i % 2 === 0).map((sub, i) => t.publish(sub.channel, i)));
    const got = await Promise.all(subs.filter((_, i) => i % 2 === 0).map((sub) => sub.seen.data(1)));
    equal(got.flat(), numbers(0, 49), 'one publication each');
  },

  async 'subscribe: more channels than one connection may have'(t) {
    const client = await t.connected();
    await Promise.all(numbers(1, 128).map((i) => t.subscribed(client, t.channel('public', `-${i}`))));
    equal(await refused(t, client, t.channel('public', '-129')), [106, 'limit exceeded'], 'the 129th');
  },

  async 'subscribe: more subscribers than the channel may have'(t) {
    const channel = t.channel('single');
    const first = await t.connected();
    const sub = await t.subscribed(first, channel);
    const second = await t.connected();
    equal(await refused(t, second, channel), [106, 'limit exceeded'], 'the second');
    await t.unsubscribed(sub);
    await t.subscribed(await t.connected(), channel);
  },

  async 'unsubscribe: by the client'(t) {
    const client = await t.connected();
    const sub = await t.subscribed(client, t.channel('stream'));
    await t.publish(sub.channel, 1);
    await sub.seen.next('publication');
    await t.unsubscribed(sub);
    equal((await sub.seen.next('unsubscribed')).code, 0, 'code');
    await t.publish(sub.channel, 2);
    equal(await t.control('presence', { channel: sub.channel }), { clients: 0, users: 0 }, 'presence');
    await client.rpc('echo', 0);
    sub.seen.none('publication');
    await t.eventually('the app is told once', async () => (await t.control('diary', { user: t.user })).unsubscribes?.length === 1);
    equal((await t.control('diary', { user: t.user })).unsubscribes, [0], 'codes that the app was told');

    sub.subscribe();
    const back = await sub.seen.next('subscribed');
    equal([back.wasRecovering, back.recovered], [true, true], 'the position is kept');
    equal(await sub.seen.data(1), [2], 'missed');
  },

  async 'unsubscribe: by the server, for good'(t) {
    const client = await t.connected();
    const sub = await t.subscribed(client, t.channel('stream'));
    await t.control('unsubscribe', { user: t.user, channel: sub.channel });
    const end = await sub.seen.next('unsubscribed');
    equal([end.code, end.reason], [2000, 'server unsubscribe'], 'unsubscribed');
    await t.publish(sub.channel, 1);
    await client.rpc('echo', 0);
    sub.seen.none('publication');
    equal((await client.presenceStats(sub.channel)).numClients, 0, 'presence');
  },

  async 'unsubscribe: the end of the connection ends subscriptions'(t) {
    const client = await t.connected();
    const sub = await t.subscribed(client, t.channel('stream'));
    client.disconnect();
    await t.eventually('the app is told', async () => (await t.control('diary', { user: t.user })).disconnects?.length === 1);
    const diary = await t.eventually('and of the subscription', async () => {
      const d = await t.control('diary', { user: t.user });
      return d.unsubscribes?.length === 1 && d;
    });
    equal([diary.disconnects, diary.unsubscribes], [[3000], [1]], 'codes that the app was told');
    equal(await t.control('presence', { channel: sub.channel }), { clients: 0, users: 0 }, 'presence');
    ok(sub.state !== 'subscribed', 'state of the subscription');
    await rejects(client.rpc('echo', 0), undefined, 'a call on a closed client');
  },
};
