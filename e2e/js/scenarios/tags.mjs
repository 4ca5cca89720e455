import { equal, ok } from '../harness.mjs';

/** publish lets the server publish numbers, each with tags. */
async function publish(t, channel, ...items) {
  for (const [item, tags] of items) await t.control('publish', { channel, items: [item], tags });
}

const coins = [
  [1, { ticker: 'BTC', price: '64000.5' }],
  [2, { ticker: 'ETH', price: '3100' }],
  [3, undefined],
  [4, { ticker: 'BTC', price: '49999' }],
  [5, { ticker: 'SOL', price: 'n/a' }],
];

export const tags = {
  async 'tags: filters of many kinds'(t) {
    const leaf = (key, cmp, val) => ({ key, cmp, val });
    const cases = [
      [{ key: 'ticker', cmp: 'eq', val: 'BTC' }, [1, 4]],
      [{ key: 'ticker', cmp: 'neq', val: 'BTC' }, [2, 3, 5]],
      [{ key: 'ticker', cmp: 'in', vals: ['ETH', 'SOL'] }, [2, 5]],
      [{ key: 'ticker', cmp: 'nin', vals: ['ETH', 'SOL'] }, [1, 3, 4]],
      [{ key: 'ticker', cmp: 'ex' }, [1, 2, 4, 5]],
      [{ key: 'ticker', cmp: 'nex' }, [3]],
      [leaf('ticker', 'sw', 'B'), [1, 4]],
      [leaf('ticker', 'ew', 'H'), [2]],
      [leaf('ticker', 'ct', 'O'), [5]],
      [leaf('price', 'gt', '50000'), [1]],
      [leaf('price', 'gte', '3100.0'), [1, 2, 4]],
      [leaf('price', 'lt', '50000'), [2, 4]],
      [leaf('price', 'lte', '3099.99'), []],
      [{ op: 'and', nodes: [leaf('ticker', 'eq', 'BTC'), leaf('price', 'gt', '50000')] }, [1]],
      [{ op: 'or', nodes: [leaf('ticker', 'eq', 'ETH'), { op: 'not', nodes: [{ key: 'price', cmp: 'ex' }] }] }, [2, 3]],
      [undefined, [1, 2, 3, 4, 5]],
    ];
    const client = await t.connected();
    await Promise.all(cases.map(async ([tagsFilter, want], i) => {
      const sub = await t.subscribed(client, t.channel('tagged', `-${i}`), { tagsFilter });
      await publish(t, sub.channel, ...coins);
      equal(await sub.seen.data(want.length), want, `filter ${JSON.stringify(tagsFilter)}`);
      sub.seen.none('publication');
    }));
  },

  async 'tags: filters of several clients on one channel'(t) {
    const channel = t.channel('tagged');
    const subs = [];
    for (const tagsFilter of [{ key: 'ticker', cmp: 'eq', val: 'BTC' }, { key: 'ticker', cmp: 'neq', val: 'BTC' }, undefined]) {
      subs.push(await t.subscribed(await t.connected(), channel, { tagsFilter }));
    }
    await publish(t, channel, ...coins);
    for (const [i, want] of [[1, 4], [2, 3, 5], [1, 2, 3, 4, 5]].entries()) equal(await subs[i].seen.data(want.length), want, `client ${i}`);
    for (const sub of subs) sub.seen.none('publication');
  },

  async 'tags: recovery sends only what passes'(t) {
    const client = await t.connected();
    const sub = await t.subscribed(client, t.channel('tagged'), { tagsFilter: { key: 'ticker', cmp: 'eq', val: 'BTC' } });
    await publish(t, sub.channel, ...coins);
    equal(await sub.seen.data(2), [1, 4], 'live');
    await t.away(() => publish(t, sub.channel, ...coins, ...coins));
    ok((await sub.seen.next('subscribed')).recovered, 'recovered');
    equal(await sub.seen.data(4), [1, 4, 1, 4], 'missed');
    await publish(t, sub.channel, [7, { ticker: 'ETH' }], [8, { ticker: 'BTC' }]);
    equal(await sub.seen.data(1), [8], 'after');
    sub.seen.none('publication');
    client.seen.none('disconnected');
  },

  async 'tags: another filter from the next subscribe on'(t) {
    const sub = await t.subscribed(await t.connected(), t.channel('tagged'), { tagsFilter: { key: 'ticker', cmp: 'eq', val: 'BTC' } });
    await publish(t, sub.channel, ...coins);
    equal(await sub.seen.data(2), [1, 4], 'the first filter');
    await t.unsubscribed(sub);
    await publish(t, sub.channel, ...coins);
    sub.setTagsFilter({ key: 'ticker', cmp: 'eq', val: 'ETH' });
    sub.subscribe();
    await sub.seen.next('subscribing');
    await sub.seen.next('subscribed');
    equal(await sub.seen.data(1), [2], 'what was missed, by the second filter');
    await publish(t, sub.channel, ...coins);
    equal(await sub.seen.data(1), [2], 'live, by the second filter');
    sub.seen.none('publication');
  },

  async 'tags: refused'(t) {
    const client = await t.connected();
    const refused = async (kind, tagsFilter, suffix) => {
      const sub = t.subscription(client, t.channel(kind, suffix), { tagsFilter });
      sub.subscribe();
      const { code, reason } = await sub.seen.next('unsubscribed');
      return [code, reason];
    };
    equal(await refused('stream', { key: 'k', cmp: 'eq', val: 'v' }, 'a'), [107, 'bad request'], 'a channel without filters');
    equal(await refused('tagged', { key: 'k', cmp: 'like', val: 'v' }, 'b'), [107, 'bad request'], 'malformed');
    equal((await client.rpc('echo', 1)).data, 1, 'the connection goes on');
  },
};
