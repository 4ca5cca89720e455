// Runs the scenarios in Node: node node.mjs BASE json|protobuf
import { Centrifuge } from 'centrifuge';
import { Centrifuge as CentrifugeProtobuf } from 'centrifuge/build/protobuf';
import WebSocket from 'ws';
import { jsonPayloads } from './protobuf.mjs';
import { run } from './run.mjs';

class ForeignWebSocket extends WebSocket {
  constructor(url, protocols) {
    super(url, protocols, { origin: 'http://elsewhere.example' });
  }
}

const encoding = process.argv[3];
const env = {
  encoding,
  base: process.argv[2],
  Centrifuge: encoding === 'protobuf' ? jsonPayloads(CentrifugeProtobuf) : Centrifuge,
  WebSocket,
  foreign: (url) => ({ url, websocket: ForeignWebSocket }),
};
await run(env, process.env.FANFARE_E2E_ONLY, (line) => process.stdout.write(`${JSON.stringify(line)}\n`));
process.exit(0); // the SDK's timers would keep a finished run alive
