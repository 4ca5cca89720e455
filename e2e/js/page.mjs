// Runs the scenarios in a page. The driver has put only, report and turn into the window.
import { jsonPayloads } from './protobuf.mjs';
import { run } from './run.mjs';

const [encoding, door, expect, node, via] = location.search.slice(1).split(',');
const env = {
  encoding,
  door,
  expect,
  node,
  via,
  base: location.origin,
  Centrifuge: encoding === 'protobuf' ? jsonPayloads(globalThis.Centrifuge) : globalThis.Centrifuge,
  WebSocket: globalThis.WebSocket,
  EventSource: globalThis.EventSource,
  // The same server under another name is another origin.
  foreign: (url) => ({ url: url.replace('127.0.0.1', 'localhost'), websocket: globalThis.WebSocket }),
};
await run(env, { only: await window.only(), report: window.report, turn: window.turn });
