// All scenarios, by name. A name is the name of a Go subtest.
import { connecting } from './scenarios/connecting.mjs';
import { conversation } from './scenarios/conversation.mjs';
import { delta } from './scenarios/delta.mjs';
import { disconnecting } from './scenarios/disconnecting.mjs';
import { limits } from './scenarios/limits.mjs';
import { messaging } from './scenarios/messaging.mjs';
import { presence } from './scenarios/presence.mjs';
import { recovering } from './scenarios/recovering.mjs';
import { starting } from './scenarios/starting.mjs';
import { refreshing } from './scenarios/refreshing.mjs';
import { serverside } from './scenarios/serverside.mjs';
import { session } from './scenarios/session.mjs';
import { subscribing } from './scenarios/subscribing.mjs';
import { tags } from './scenarios/tags.mjs';

/** webSocketOnly are those that look into the WebSocket, or at what only it does. */
export const webSocketOnly = new Set([
  'connect: a foreign origin is refused',
  'limits: who goes on regardless is sent away, and comes back', // commands in requests of their own take turns
  'ping: a client hears them, under traffic and without',
  'ping: a client that does not answer is closed',
  'publish: large',
  'publish: over a compressed connection',
]);

/** oneNodeOnly are those about what each node of a cluster does by itself. */
export const oneNodeOnly = new Set(['subscribe: more subscribers than the channel may have']);

export const scenarios = {
  ...connecting,
  ...subscribing,
  ...messaging,
  ...presence,
  ...conversation,
  ...recovering,
  ...starting,
  ...delta,
  ...tags,
  ...serverside,
  ...disconnecting,
  ...refreshing,
  ...limits,
  ...session,
};
