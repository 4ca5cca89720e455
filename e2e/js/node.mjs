// Runs the scenarios in Node: node node.mjs BASE
import { Centrifuge } from 'centrifuge';
import WebSocket from 'ws';
import { run } from './run.mjs';

class ForeignWebSocket extends WebSocket {
  constructor(url, protocols) {
    super(url, protocols, { origin: 'http://elsewhere.example' });
  }
}

const env = {
  base: process.argv[2],
  Centrifuge,
  WebSocket,
  foreign: (url) => ({ url, websocket: ForeignWebSocket }),
};
await run(env, process.env.FANFARE_E2E_ONLY, (line) => process.stdout.write(`${JSON.stringify(line)}\n`));
process.exit(0); // the SDK's timers would keep a finished run alive
