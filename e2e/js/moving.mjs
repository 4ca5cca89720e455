// Published clients on every transport, in front of nodes behind a balancer while servers fail: node moving.mjs ADDRESS CHANNEL...
//
// It prints {"begun":true} when every client is subscribed everywhere, and reads one line, {"channel":{"offset":…,"epoch":…},…}, where the
// streams have ended. When every client has got there it prints {"tales":{client:{channel:[scene…]}},"problems":[…]} and ends. Each
// client checks for itself what it gets; whether all got the same is for whoever reads the tales.
import { createInterface } from 'node:readline';
import { Centrifuge } from 'centrifuge';
import { Centrifuge as CentrifugeProtobuf } from 'centrifuge/build/protobuf';
import { EventSource } from 'eventsource';
import WebSocket from 'ws';
import { sleep } from './harness.mjs';
import { jsonPayloads } from './protobuf.mjs';

const patience = 30_000;
const [address, ...channels] = process.argv.slice(2);
const ways = [
  ['websocket', Centrifuge], ['websocket', jsonPayloads(CentrifugeProtobuf)], ['http_stream', Centrifuge],
  ['http_stream', jsonPayloads(CentrifugeProtobuf)], ['sse', Centrifuge],
];
const problems = [];

/** Tale is what one client sees in one channel. */
class Tale {
  constructor(name, sub) {
    Object.assign(this, { name: `${name}, ${sub.channel}`, scenes: [], numbers: {} });
    sub.on('subscribed', (ctx) => this.subscribed(ctx));
    sub.on('publication', (ctx) => this.seen(ctx));
    sub.on('unsubscribed', (ctx) => this.problem(`unsubscribed: ${ctx.code} ${ctx.reason}`));
  }

  problem(what) {
    problems.push(`${this.name}: ${what}`);
  }

  subscribed({ streamPosition: at, wasRecovering, recovered }) {
    if (!at) return this.problem('no position');
    if (!this.at) {
      this.scenes.push({ kind: 'began', ...at });
    } else if (!wasRecovering) {
      this.problem('subscribed anew without a word on recovery');
    } else if (!recovered) {
      this.scenes.push({ kind: 'told', ...at });
    } else if (at.epoch !== this.at.epoch || at.offset !== this.at.offset) {
      this.problem(`recovered from ${at.offset}@${at.epoch}, being at ${this.at.offset}@${this.at.epoch}`);
    }
    this.at = { ...at };
  }

  seen({ offset, data }) {
    if (!this.at) return this.problem(`${data} before the subscription`);
    if (offset !== this.at.offset + 1) this.problem(`${data} at ${offset}, after ${this.at.offset}`);
    this.at.offset = offset;
    this.scenes.push({ kind: 'seen', ...this.at, payload: JSON.stringify(data) });
    const [, channel, publisher, number] = data.match(/^(.*)\/(.*)\/(\d+)$/) ?? [];
    if (!this.name.endsWith(channel)) this.problem(`${data} in the wrong channel`);
    if (!(Number(number) > (this.numbers[publisher] ?? 0))) this.problem(`${data} after ${this.numbers[publisher]} of ${publisher}`);
    this.numbers[publisher] = Number(number);
  }

  standsAt(at) {
    return this.at?.offset === at.offset && this.at.epoch === at.epoch;
  }
}

function start([door, Client], i) {
  const name = `sdk ${i}, ${door}`;
  const way = { transport: door, endpoint: `${door === 'websocket' ? 'ws' : 'http'}://${address}/${door}` };
  const client = new Client([way], {
    websocket: WebSocket, fetch, readableStream: ReadableStream, eventsource: EventSource, emulationEndpoint: `http://${address}/emulation`,
    minReconnectDelay: 50, maxReconnectDelay: 300,
  });
  client.on('disconnected', (ctx) => ended || problems.push(`${name}: disconnected: ${ctx.code} ${ctx.reason}`));
  const tales = channels.map((channel) => {
    const sub = client.newSubscription(channel, { minResubscribeDelay: 50, maxResubscribeDelay: 300 });
    const tale = new Tale(name, sub);
    sub.subscribe();
    return [channel, tale];
  });
  client.connect();
  return { name, client, tales };
}

async function eventually(what, so) {
  for (const end = Date.now() + patience; !so(); await sleep(20)) {
    if (Date.now() > end) return problems.push(`never: ${what}`);
  }
}

const print = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

let ended = false;
const clients = ways.map(start);
const tales = clients.flatMap((c) => c.tales);
await eventually('everybody subscribed', () => tales.every(([, tale]) => tale.at));
print({ begun: true });
for await (const line of createInterface({ input: process.stdin })) {
  const end = JSON.parse(line);
  await eventually(`everybody at ${line}`, () => tales.every(([channel, tale]) => tale.standsAt(end[channel])));
  break;
}
ended = true;
for (const { client } of clients) client.disconnect();
const told = clients.map(({ name, tales }) => [name, Object.fromEntries(tales.map(([channel, { scenes }]) => [channel, scenes]))]);
const last = `${JSON.stringify({ tales: Object.fromEntries(told), problems })}\n`;
process.stdout.write(last, () => process.exit(0)); // the SDK's timers would keep it alive
