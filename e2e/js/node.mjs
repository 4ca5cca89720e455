// Runs the scenarios in Node: node node.mjs BASE json|protobuf websocket|http_stream|sse
// where each request meets one of several nodes: node node.mjs BASE json|protobuf DOOR cluster
// or those of fallback: node node.mjs BASE json|protobuf fallback EXPECT NODE VIA
import { Centrifuge } from 'centrifuge';
import { Centrifuge as CentrifugeProtobuf } from 'centrifuge/build/protobuf';
import { EventSource } from 'eventsource';
import WebSocket from 'ws';
import { jsonPayloads } from './protobuf.mjs';
import { run } from './run.mjs';

class ForeignWebSocket extends WebSocket {
  constructor(url, protocols) {
    super(url, protocols, { origin: 'http://elsewhere.example' });
  }
}

const [base, encoding, door, expect, node, via] = process.argv.slice(2);
const env = {
  encoding,
  door,
  expect,
  node,
  via,
  options: { fetch, readableStream: ReadableStream, eventsource: EventSource },
  base,
  Centrifuge: encoding === 'protobuf' ? jsonPayloads(CentrifugeProtobuf) : Centrifuge,
  WebSocket,
  EventSource,
  foreign: (url) => ({ url, websocket: ForeignWebSocket }),
};
let turns = 0;
await run(env, {
  only: process.env.FANFARE_E2E_ONLY,
  report: (line) => process.stdout.write(`${JSON.stringify(line)}\n`),
  turn: () => turns++,
});
process.exit(0); // the SDK's timers would keep a finished run alive
