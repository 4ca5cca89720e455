// Applies the deltas of a file, one JSON object a line, with the npm package fossil-delta: node deltas.mjs FILE
import { applyDelta } from 'fossil-delta';
import { readFileSync } from 'node:fs';

const bytes = (base64) => new Uint8Array(Buffer.from(base64, 'base64'));
const wrong = [];
let count = 0;
for (const line of readFileSync(process.argv[2], 'utf8').trim().split('\n')) {
  const { base, target, delta, text } = JSON.parse(line);
  count++;
  // As bytes, and as the SDK has it from a JSON string.
  for (const d of text === undefined ? [bytes(delta)] : [bytes(delta), new TextEncoder().encode(text)]) {
    try {
      const got = Buffer.from(applyDelta(bytes(base), d, { verifyChecksum: true }));
      if (!got.equals(Buffer.from(target, 'base64'))) wrong.push(`line ${count}: another target`);
    } catch (err) {
      wrong.push(`line ${count}: ${err.message}`);
    }
  }
}
process.stdout.write(`${JSON.stringify({ name: `${count} deltas`, ok: count > 0 && wrong.length === 0, error: wrong.slice(0, 5).join('\n') })}\n`);
