import { equal, numbers, ok } from '../harness.mjs';

/** letters are characters of every length; some differ in their last byte alone, which a delta must not cut. */
const letters = ['a', '"', '\\', '\n', 'é', 'è', '漢', '漣', '🎈', '🎉', '\u2028'];

/** document returns the nth of a series, each a small edit of the one before. */
function document(n) {
  const rows = numbers(1, 40).map((id) => ({ id, name: `Grüße an Nummer ${id}`, rev: id === 1 + (n % 40) ? n : 0 }));
  const text = numbers(0, 60).map((i) => letters[(i + (i === n % 61 ? 1 : 0)) % letters.length]).join('');
  return { rows, text, n };
}

const documents = (first, last) => numbers(first, last).map(document);

/** compressed asserts that all publications but some of a subscription came as deltas, and that this saved something. */
function compressed(sub, publications, full) {
  const stats = sub.deltaStats();
  equal([stats.numPublications, stats.numFullPayloads], [publications, full], 'publications, and those in full');
  ok(stats.bytesReceived < stats.bytesDecoded / 2, `${stats.bytesReceived} bytes of ${stats.bytesDecoded}`);
}

export const delta = {
  async 'delta: documents, for those who ask and those who do not'(t) {
    const channel = t.channel('doc');
    const subs = [];
    for (const options of [{ delta: 'fossil' }, {}, { delta: 'fossil' }]) {
      subs.push(await t.subscribed(await t.connected(), channel, options));
    }
    await t.publish(channel, ...documents(1, 20));
    const late = await t.subscribed(await t.connected(), channel, { delta: 'fossil' });
    await t.publish(channel, ...documents(21, 40));
    for (const sub of subs) equal(await sub.seen.data(40), documents(1, 40), 'documents');
    equal(await late.seen.data(20), documents(21, 40), 'documents of who came late');
    compressed(subs[0], 40, 1);
    compressed(subs[2], 40, 1);
    compressed(late, 20, 1);
    equal(subs[1].deltaStats().numPublications, 0, 'deltas of who did not ask');
  },

  async 'delta: over a cut, recovered'(t) {
    const client = await t.connected();
    const sub = await t.subscribed(client, t.channel('doc'), { delta: 'fossil' });
    await t.publish(sub.channel, ...documents(1, 5));
    equal(await sub.seen.data(5), documents(1, 5), 'before');
    await t.away(() => t.publish(sub.channel, ...documents(6, 15)));
    ok((await sub.seen.next('subscribed')).recovered, 'recovered');
    equal(await sub.seen.data(10), documents(6, 15), 'missed');
    await t.publish(sub.channel, ...documents(16, 20));
    equal(await sub.seen.data(5), documents(16, 20), 'after');
    ok(sub.deltaStats().numFullPayloads <= 3, 'in full: the first, the first missed, and the first live one at most');
    await t.away(async () => {});
    ok((await sub.seen.next('subscribed')).recovered, 'recovered again');
    await t.publish(sub.channel, ...documents(21, 23));
    equal(await sub.seen.data(3), documents(21, 23), 'after a cut in which nothing was missed');
    client.seen.none('disconnected');
  },

  async 'delta: over a loss inside the server'(t) {
    const sub = await t.subscribed(await t.connected(), t.channel('doc'), { delta: 'fossil' });
    await t.publish(sub.channel, document(1));
    await t.control('lose', { channel: sub.channel, count: 3 });
    await t.publish(sub.channel, ...documents(2, 8));
    equal(await sub.seen.data(8), documents(1, 8), 'documents');
  },

  async 'delta: not recovered begins in full'(t) {
    const sub = await t.subscribed(await t.connected(), t.channel('shortdoc'), { delta: 'fossil' });
    await t.publish(sub.channel, ...documents(1, 3));
    equal(await sub.seen.data(3), documents(1, 3), 'before');
    await t.away(() => t.publish(sub.channel, ...documents(4, 20)));
    const { wasRecovering, recovered } = await sub.seen.next('subscribed');
    equal([wasRecovering, recovered], [true, false], 'recovery');
    await t.publish(sub.channel, ...documents(21, 23));
    equal(await sub.seen.data(3), documents(21, 23), 'after');
    compressed(sub, 6, 2);
  },

  async 'delta: after an unsubscribe, without history, and where little is the same'(t) {
    const sub = await t.subscribed(await t.connected(), t.channel('livedoc'), { delta: 'fossil' });
    await t.publish(sub.channel, ...documents(1, 3));
    equal(await sub.seen.data(3), documents(1, 3), 'before');
    await t.unsubscribed(sub);
    await t.publish(sub.channel, document(4));
    sub.subscribe();
    await sub.seen.next('subscribing');
    await sub.seen.next('subscribed');
    const mixed = [document(5), 1, 'x', document(6), null, document(7), document(8)];
    await t.publish(sub.channel, ...mixed);
    equal(await sub.seen.data(7), mixed, 'after');
  },

  async 'delta: a channel of text'(t) {
    const client = await t.connected();
    const sub = await t.subscribed(client, t.channel('textdoc'), { delta: 'fossil' });
    const plain = await t.subscribed(await t.connected(), sub.channel);
    const texts = numbers(1, 5).map((n) => `<p class="a">\n“Grüße”, a rather long text, number ${n}</p>\n`);
    for (const raw of texts) await t.control('publish', { channel: sub.channel, raw });
    equal(await sub.seen.data(5), texts, 'text');
    equal(await plain.seen.data(5), texts, 'text without delta');
    equal(sub.deltaStats().numFullPayloads, 1, 'in full');
  },

  async 'delta: a cache, of which each subscription begins with the newest'(t) {
    const channel = t.channel('cachedoc');
    await t.publish(channel, ...documents(1, 3));
    const sub = await t.subscribed(await t.connected(), channel, { delta: 'fossil' });
    equal(await sub.seen.data(1), documents(3, 3), 'the newest');
    await t.publish(channel, ...documents(4, 6));
    equal(await sub.seen.data(3), documents(4, 6), 'live');
    await t.away(() => t.publish(channel, ...documents(7, 9)));
    equal(await sub.seen.data(1), documents(9, 9), 'the newest after a cut');
    await t.publish(channel, ...documents(10, 12));
    equal(await sub.seen.data(3), documents(10, 12), 'live again');
  },

  async 'delta: not offered'(t) {
    const sub = await t.subscribed(await t.connected(), t.channel('stream'), { delta: 'fossil' });
    await t.publish(sub.channel, { a: 1 }, { a: 2 });
    equal(await sub.seen.data(2), [{ a: 1 }, { a: 2 }], 'plain data comes');
    equal(sub.deltaStats().numPublications, 0, 'deltas');
  },
};
