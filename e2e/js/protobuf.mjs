// Makes the SDK's Protobuf build look like its JSON build to the scenarios: its payloads are bytes, those of the scenarios JSON
// values. Everything else is the SDK's own.

const toBytes = (value) => new TextEncoder().encode(JSON.stringify(value));

function fromBytes(bytes) {
  const text = new TextDecoder().decode(bytes);
  try {
    return JSON.parse(text);
  } catch {
    return text; // of a channel of text, which in JSON is a string
  }
}

const payloads = new Set(['data', 'conn_info', 'chan_info']);

/** received are the bytes that payloads were made of. What is a delta is put together before it is read. */
const received = new WeakMap();

/** convert replaces every payload in a message, in place. */
function convert(message, replace) {
  for (const key of payloads) {
    // What is not there has the empty default of its type, on the prototype.
    if (message && key in message && !Object.hasOwn(message, key)) message[key] = undefined;
  }
  for (const [key, value] of Object.entries(message ?? {})) {
    if (payloads.has(key)) {
      if (key === 'data') received.set(message, value);
      message[key] = value === undefined || value instanceof Uint8Array && value.length === 0 ? undefined : replace(value);
    } else if (key === 'tags') {
      if (Object.keys(value).length === 0) message.tags = undefined;
    } else if (value && typeof value === 'object' && !(value instanceof Uint8Array)) {
      convert(value, replace);
    }
  }
  return message;
}

/** jsonPayloads returns a client like Centrifuge, from the SDK's Protobuf build. */
export function jsonPayloads(Centrifuge) {
  return class extends Centrifuge {
    _formatOverride() {
      super._formatOverride();
      const codec = this._codec;
      const { encodeCommands, decodeReplies, applyDeltaIfNeeded } = codec;
      codec.encodeCommands = (commands) =>
        encodeCommands.call(codec, commands.map((c) => convert(structuredClone(c), toBytes)));
      codec.applyDeltaIfNeeded = (pub, previous) => {
        const result = applyDeltaIfNeeded.call(codec, { ...pub, delta: pub.delta, data: received.get(pub) }, previous);
        return { ...result, newData: fromBytes(result.newData) };
      };
      codec.decodeReplies = (data) => decodeReplies.call(codec, data).map((r) => convert(r, fromBytes));
    }
  };
}
