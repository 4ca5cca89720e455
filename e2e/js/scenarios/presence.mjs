import { equal, rejects } from '../harness.mjs';

/** entries reads presence by the SDK's names: it leaves those of the wire in the objects, too. */
const entries = ({ clients }) =>
  Object.fromEntries(
    Object.entries(clients).map(([id, { user, client, connInfo, chanInfo }]) => [id, { user, client, connInfo, chanInfo }]),
  );

export const presence = {
  async 'presence'(t) {
    const channel = t.channel('stream');
    const ann = await t.connected({ data: { info: { name: 'Ann' } } });
    const bob = await t.connected({ user: `${t.user}-bob` });
    equal(await ann.presence(channel), { clients: {} }, 'of an empty channel');
    equal(await ann.presenceStats(channel), { numClients: 0, numUsers: 0 }, 'stats of an empty channel');

    const sub = await t.subscribed(ann, channel);
    const entry = { user: t.user, client: ann.hello.client, connInfo: { name: 'Ann' } };
    equal(entries(await sub.presence()), { [entry.client]: entry }, 'one');

    const his = await t.subscribed(bob, channel);
    const second = await t.connected();
    await t.subscribed(second, channel);
    const clients = entries(await his.presence());
    equal(Object.keys(clients).sort(), [ann, bob, second].map((c) => c.hello.client).sort(), 'three');
    equal(clients[bob.hello.client], { user: `${t.user}-bob`, client: bob.hello.client }, 'an entry without info');
    equal(await his.presenceStats(), { numClients: 3, numUsers: 2 }, 'stats');

    await t.unsubscribed(his, `${t.user}-bob`);
    equal(await sub.presenceStats(), { numClients: 2, numUsers: 1 }, 'after an unsubscribe');
    second.disconnect();
    await t.eventually('the closed connection leaves', async () => (await sub.presenceStats()).numClients === 1);
  },

  async 'presence: errors'(t) {
    const client = await t.connected();
    for (const call of [client.presence.bind(client), client.presenceStats.bind(client)]) {
      await rejects(call(t.channel('public')), 108, 'channel without presence');
      await rejects(call(t.channel('force')), 103, 'no permission');
      await rejects(call(t.channel('guard')), 103, 'refused by the hook');
      await rejects(call(t.channel('undeclared')), 102, 'undeclared');
    }
    const staff = await t.connected({ user: `staff-${t.id}` });
    equal(await staff.presence(t.channel('guard')), { clients: {} }, 'permitted by the hook');
  },

  async 'join and leave'(t) {
    const channel = t.channel('stream');
    const ann = await t.connected();
    const bob = await t.connected({ user: `${t.user}-bob`, data: { info: { name: 'Bob' } } });
    const watching = await t.subscribed(ann, channel, { joinLeave: true });
    const own = await watching.seen.next('join');
    equal(own.info, { user: t.user, client: ann.hello.client }, 'its own join');

    const plain = await t.subscribed(bob, channel);
    const info = { user: `${t.user}-bob`, client: bob.hello.client, connInfo: { name: 'Bob' } };
    equal((await watching.seen.next('join')).info, info, 'join');
    plain.unsubscribe();
    equal((await watching.seen.next('leave')).info, info, 'leave');

    plain.subscribe();
    await watching.seen.next('join');
    await t.control('cut', { user: `${t.user}-bob`, hold: true });
    equal((await watching.seen.next('leave')).info, info, 'leave of a lost connection');
    await t.control('admit', { user: `${t.user}-bob` });
    const back = await watching.seen.next('join');
    equal(back.info.user, info.user, 'join after the reconnect');
    plain.seen.none('join');
    plain.seen.none('leave');
    watching.seen.none('leave');
  },

  async 'join and leave: forced upon all'(t) {
    const channel = t.channel('force');
    const ann = await t.connected();
    const watching = await t.subscribed(ann, channel);
    await watching.seen.next('join');
    const bob = await t.connected({ user: `${t.user}-bob` });
    await t.subscribed(bob, channel);
    equal((await watching.seen.next('join')).info.user, `${t.user}-bob`, 'join');
    bob.disconnect();
    equal((await watching.seen.next('leave')).info.client, bob.hello.client, 'leave');
  },
};
