import { equal, ok } from '../harness.mjs';

/** A page that starts: its state, and where its stream goes on. What the server publishes while the state is read is items. */
export const starting = {
  async 'starting: a snapshot goes on by since'(t) {
    const channel = t.channel('stream');
    await t.publish(channel, 1, 2);
    const { state, positions } = await t.control('snapshot', { channel, items: [3, 4] });
    equal(state, [1, 2], 'the state from before');
    await t.publish(channel, 5);
    const sub = await t.subscribed(await t.connected(), channel, { since: positions[channel] });
    ok(sub.first.wasRecovering && sub.first.recovered, 'recovered');
    await t.publish(channel, 6);
    equal(await sub.seen.data(4), [3, 4, 5, 6], 'what came since');
    sub.seen.none('publication');
  },

  async 'starting: a snapshot of a channel that was never used'(t) {
    const channel = t.channel('stream');
    const { state, positions } = await t.control('snapshot', { channel, items: [1] });
    equal(state, [], 'no state');
    const sub = await t.subscribed(await t.connected(), channel, { since: positions[channel] });
    equal(await sub.seen.data(1), [1], 'what came since');
  },

  async 'starting: getState, again when what was missed is gone'(t) {
    const channel = t.channel('small'); // keeps five
    await t.publish(channel, 1);
    const states = [];
    const getState = async () => {
      const { state, positions } = await t.control('snapshot', { channel, items: [states.length ? 9 : 2] });
      states.push(state);
      return positions[channel];
    };
    const client = await t.connected();
    const sub = await t.subscribed(client, channel, { getState });
    equal(states, [[1]], 'asked once');
    equal(await sub.seen.data(1), [2], 'what was written meanwhile');
    await t.away(() => t.publish(channel, 3));
    equal(await sub.seen.data(1), [3], 'recovered, without a state');
    equal(states.length, 1, 'states');
    await t.away(() => t.publish(channel, 4, 5, 6, 7, 8, 8.5));
    equal(await sub.seen.data(1), [9], 'only what the second state had not');
    equal(states, [[1], [4, 5, 6, 7, 8, 8.5].slice(-5)], 'asked again');
    sub.seen.none('publication');
  },

  async 'starting: the page that has caused a publication is left out, until it comes back'(t) {
    const channel = t.channel('stream');
    const client = await t.connected();
    const mine = await t.subscribed(client, channel);
    const other = await t.subscribed(await t.connected(), channel);
    await t.control('publish', { channel, items: [1, 2], except: client.hello.client });
    await t.publish(channel, 3);
    await t.control('publish', { channel, items: ['typing'], passing: true });
    await t.control('publish', { channel, items: [4], except: client.hello.client });
    await t.publish(channel, 5);
    equal(await mine.seen.data(3), [3, 'typing', 5], 'of others');
    equal(await other.seen.data(6), [1, 2, 3, 'typing', 4, 5], 'all');
    await t.control('publish', { channel, items: [6], except: client.hello.client });
    await t.control('cut', { user: t.user });
    equal(await mine.seen.data(1), [6], 'a new connection recovers it');
    mine.seen.none('unsubscribed');
  },
};
