// Runs the scenarios in Node: node node.mjs BASE json|protobuf websocket|http_stream
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

const [encoding, door] = process.argv.slice(3);
const env = {
  encoding,
  door,
  options: { fetch, readableStream: ReadableStream },
  base: process.argv[2],
  Centrifuge: encoding === 'protobuf' ? jsonPayloads(CentrifugeProtobuf) : Centrifuge,
  WebSocket,
  foreign: (url) => ({ url, websocket: ForeignWebSocket }),
};
await run(env, process.env.FANFARE_E2E_ONLY, (line) => process.stdout.write(`${JSON.stringify(line)}\n`));
process.exit(0); // the SDK's timers would keep a finished run alive
