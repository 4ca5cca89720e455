import { equal, numbers } from '../harness.mjs';

export const conversation = {
  // The same as that of the doors without an SDK.
  async 'conversation: from the first message to the last'(t) {
    const channel = t.channel('stream');
    const client = await t.connected();
    const sub = await t.subscribed(client, channel);
    for (const i of numbers(0, 9)) await t.publish(channel, ...numbers(i * 100 + 1, i * 100 + 100));
    equal(await sub.seen.data(1000), numbers(1, 1000), 'a thousand, in order');
    equal(await sub.presenceStats(), { numClients: 1, numUsers: 1 }, 'presence');
    await t.away(() => t.publish(channel, ...numbers(1001, 1050)));
    await t.publish(channel, ...numbers(1051, 1100));
    equal(await sub.seen.data(100), numbers(1001, 1100), 'after a cut');
    sub.seen.none('publication');
    equal(sub.seen.all('publication').map((p) => p.offset), numbers(1, 1100), 'offsets');
    client.disconnect();
    await t.eventually('it has left', async () => (await t.control('presence', { channel })).clients === 0);
  },
};
