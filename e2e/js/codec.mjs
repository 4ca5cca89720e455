// Lends the Protobuf codec of the SDK to a test: node codec.mjs, then each line of the input is a request, and each line of the
// output its answer. In what is exchanged, bytes are {"$bytes": base64}; in what was decoded, numbers are text, so that those
// of 64 bits are exact, and what has its default is left out.
import { createInterface } from 'node:readline';
import { Centrifuge } from 'centrifuge/build/protobuf';
import WebSocket from 'ws';

const codec = new Centrifuge('ws://nowhere.example', { websocket: WebSocket })._codec;

const operations = {
  decodeReplies: ({ frame }) => codec.decodeReplies(Buffer.from(frame, 'base64')).map(plain),
  encodeCommands: ({ commands }) => encoded(codec.encodeCommands(commands.map(rich))),
  encodeEmulationRequest: ({ request }) => encoded(codec.encodeEmulationRequest(rich(request))),
};

const encoded = (bytes) => Buffer.from(bytes).toString('base64');

/** rich puts bytes where they are meant. */
function rich(value) {
  if (Array.isArray(value)) return value.map(rich);
  if (!value || typeof value !== 'object') return value;
  if ('$bytes' in value) return new Uint8Array(Buffer.from(value.$bytes, 'base64'));
  return Object.fromEntries(Object.entries(value).map(([name, v]) => [name, rich(v)]));
}

/** plain is what a decoded message says. */
function plain(message) {
  const out = {};
  for (const [name, value] of Object.entries(message)) {
    const v = single(value);
    if (v !== undefined) out[name] = v;
  }
  return out;
}

/** single is the value of a field; undefined if it is the default. */
function single(value) {
  if (value instanceof Uint8Array) return value.length ? { $bytes: encoded(value) } : undefined;
  if (Array.isArray(value)) return value.length ? value.map(plain) : undefined;
  if (typeof value === 'number') return value ? `${value}` : undefined;
  if (!value || typeof value !== 'object') return value || undefined;
  if ('low' in value && 'high' in value) return value.isZero() ? undefined : value.toString();
  if (value.constructor !== Object) return plain(value);
  // A map, whose values are messages or text.
  const entries = Object.entries(value).map(([key, v]) => [key, typeof v === 'string' ? v : plain(v)]);
  return entries.length ? Object.fromEntries(entries) : undefined;
}

for await (const line of createInterface({ input: process.stdin })) {
  let answer;
  try {
    const request = JSON.parse(line);
    answer = { result: operations[request.do](request) };
  } catch (err) {
    answer = { error: err.stack };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
process.exit(0);
