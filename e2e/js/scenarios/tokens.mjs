import { equal, ok, sleep } from '../harness.mjs';

/** seconds is a time to live as the issuer takes it. The times in tokens are whole seconds, so it is up to one less. */
const seconds = (n) => n * 1e9;

/** issue asks the issuer for a token. */
async function issue(t, kind, claims) {
  const response = await fetch(`${t.env.base}/issuer/${kind}`, { method: 'POST', body: JSON.stringify(claims) });
  if (!response.ok) throw new Error(await response.text());
  return response.json();
}

const connectionToken = (t, claims) => issue(t, 'connection', { User: t.user, ...claims });
const subscriptionToken = (t, channel, claims) => issue(t, 'subscription', { User: t.user, Channel: channel, ...claims });

/** issuing returns a getToken, and counts in calls how often it was asked. */
function issuing(make) {
  const getToken = async (ctx) => (getToken.calls++, make(ctx, getToken.calls));
  getToken.calls = 0;
  return getToken;
}

/** expired returns a token that was good once. */
async function expired(make) {
  const token = await make({ TTL: seconds(1) });
  await sleep(1100);
  return token;
}

const connected = (t, options) => t.connected({ node: 'tokens', ...options });

/** endless connects for as long as a scenario lasts. */
const endless = async (t) => connected(t, { token: await connectionToken(t, { NeverExpires: true }) });

/** publish lets the node of these scenarios publish. */
const publish = (t, channel, ...items) => t.control('publish', { node: 'tokens', channel, items });

export const tokens = {
  async 'tokens: a connection lives on by new ones'(t) {
    const getToken = issuing(() => connectionToken(t, { TTL: seconds(3) }));
    const client = await connected(t, { getToken });
    await t.eventually('two refreshes', () => getToken.calls >= 3);
    await sleep(300);
    client.seen.none('connecting');
    equal(client.state, 'connected', 'state');
  },

  async 'tokens: a subscription lives on by new ones'(t) {
    const client = await endless(t);
    const channel = t.channel('jwt');
    const getToken = issuing((ctx) => subscriptionToken(t, ctx.channel, { TTL: seconds(3), Data: { seat: 7 }, Info: 'front row' }));
    const sub = await t.subscribed(client, channel, { getToken });
    equal(sub.first.data, { seat: 7 }, 'data of the token');
    equal((await sub.presence()).clients[client.hello.client].chanInfo, 'front row', 'info of the token');
    await t.eventually('two refreshes', () => getToken.calls >= 3);
    await publish(t, channel, 1);
    equal(await sub.seen.data(1), [1], 'publications');
    sub.seen.none('subscribing');
  },

  async 'tokens: an expired one is replaced at connect'(t) {
    const getToken = issuing(() => connectionToken(t));
    const client = await connected(t, { token: await expired((c) => connectionToken(t, c)), getToken });
    equal(getToken.calls, 1, 'tokens asked for');
    equal(client.seen.all('error').map((e) => e.error.code), [109], 'errors on the way');
  },

  async 'tokens: an expired one is replaced at subscribe'(t) {
    const client = await endless(t);
    const channel = t.channel('jwt');
    const getToken = issuing(() => subscriptionToken(t, channel));
    const sub = await t.subscribed(client, channel, { token: await expired((c) => subscriptionToken(t, channel, c)), getToken });
    equal(getToken.calls, 1, 'tokens asked for');
    equal(sub.seen.all('error').map((e) => e.error.code), [109], 'errors on the way');
  },

  async 'tokens: an expired one at refresh ends the connection, and the next one begins it again'(t) {
    const old = await expired((c) => connectionToken(t, c));
    const getToken = issuing((_, call) => (call === 1 ? old : connectionToken(t)));
    const client = await connected(t, { token: await connectionToken(t, { TTL: seconds(3) }), getToken });
    equal((await client.seen.next('connecting')).code, 3005, 'connecting');
    await client.seen.next('connected');
    equal(client.seen.all('error').filter((e) => e.error.code !== 109), [], 'errors on the way');
  },

  async 'tokens: an expired one at sub refresh does not make a subscription unlimited'(t) {
    const client = await endless(t);
    const channel = t.channel('jwt');
    const old = await expired((c) => subscriptionToken(t, channel, c));
    const getToken = issuing((_, call) => (call === 1 ? old : subscriptionToken(t, channel)));
    const sub = await t.subscribed(client, channel, { token: await subscriptionToken(t, channel, { TTL: seconds(3) }), getToken });
    equal((await sub.seen.next('subscribing')).code, 2501, 'subscribing');
    await sub.seen.next('subscribed');
    await publish(t, channel, 1);
    equal(await sub.seen.data(1), [1], 'publications');
    client.seen.none('connecting');
  },

  async "tokens: another user's at refresh"(t) {
    const getToken = issuing(() => connectionToken(t, { User: 'eve' }));
    const client = await connected(t, { token: await connectionToken(t, { TTL: seconds(3) }), getToken });
    const end = await client.seen.next('disconnected');
    equal([end.code, end.reason], [3500, 'invalid token'], 'disconnected');
  },

  async "tokens: another channel's at subscribe"(t) {
    const client = await endless(t);
    const sub = t.subscription(client, t.channel('jwt'), { token: await subscriptionToken(t, t.channel('jwt', '-other')) });
    sub.subscribe();
    const end = await client.seen.next('disconnected');
    equal([end.code, end.reason], [3500, 'invalid token'], 'disconnected');
  },

  async 'tokens: forged ones end a subscription or a connection, and the SDK does not come back'(t) {
    const forge = (token) => `${token.slice(0, token.lastIndexOf('.'))}.${'A'.repeat(86)}`;
    const client = await endless(t);
    const sub = t.subscription(client, t.channel('jwt'), { token: forge(await subscriptionToken(t, t.channel('jwt'))) });
    sub.subscribe();
    equal((await sub.seen.next('unsubscribed')).code, 103, 'unsubscribed');
    client.seen.none('connecting');
    const getToken = issuing(async () => forge(await connectionToken(t)));
    const eve = t.client({ node: 'tokens', getToken });
    eve.connect();
    const end = await eve.seen.next('disconnected');
    equal([end.code, end.reason], [3500, 'invalid token'], 'disconnected');
    await sleep(500);
    equal(getToken.calls, 1, 'tokens asked for');
  },

  async 'tokens: subscriptions that the server makes, and what others see'(t) {
    const channel = t.channel('jwt');
    const token = await connectionToken(t, { Info: { name: 'Ann' }, Subscriptions: { [channel]: { Info: 1, Data: 'welcome' } } });
    const client = await connected(t, { token });
    equal((await client.seen.next('subscribed')).data, 'welcome', 'data of the token');
    const { clients } = await client.presence(channel);
    const { user, connInfo, chanInfo } = clients[client.hello.client];
    equal({ user, connInfo, chanInfo }, { user: t.user, connInfo: { name: 'Ann' }, chanInfo: 1 }, 'presence');
    await publish(t, channel, 1);
    equal(await client.seen.data(1), [1], 'publications');
  },

  async 'tokens: new keys of the issuer'(t) {
    const first = await endless(t);
    for (let i = 0; i < 3; i++) {
      await fetch(`${t.env.base}/issuer/rotate`, { method: 'POST' });
      // In the interval between two requests for keys it may be told to try again, and does.
      const client = t.client({ node: 'tokens', getToken: () => issue(t, 'connection?newest', { User: t.user }) });
      client.connect();
      await client.seen.next('connected');
      client.seen.none('disconnected');
    }
    ok(first.state === 'connected', 'the connection by an old key');
  },
};
