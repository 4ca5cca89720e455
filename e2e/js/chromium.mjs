// Runs the scenarios in headless Chromium: node chromium.mjs BASE json|protobuf websocket|http_stream|sse CHROMIUM
// or those of fallback: node chromium.mjs BASE json|protobuf fallback CHROMIUM EXPECT NODE VIA
import { launch } from './browser.mjs';

const [base, encoding, door, executable, ...fallback] = process.argv.slice(2);

/**
 * A page has six connections to a server, and a stream holds one, so over streams each page runs one scenario at a time. Pages
 * of different profiles, which is what the browser makes here, share no connections.
 */
const pages = ['websocket', 'fallback'].includes(door) ? 1 : 4;

let planned = -1;
let done = 0;
let turns = 0;

const browser = await launch(executable);
try {
  await new Promise((resolve, reject) => {
    const report = (line) => {
      if (line.planned && planned >= 0) return; // each page has the same plan
      process.stdout.write(`${JSON.stringify(line)}\n`);
      if (line.planned) planned = line.planned.length;
      else done++;
      if (done === planned) resolve();
    };
    Promise.all(Array.from({ length: pages }, () => open(report, reject))).catch(reject);
  });
} finally {
  await browser.close();
}

/** open loads a page that takes its turns at the scenarios. */
async function open(report, reject) {
  const page = await browser.newPage();
  let loaded = false;
  page.on('pageerror', (err) => reject(new Error(`page error: ${err.stack}`)));
  // A script that does not load raises no page error. Later on, scenarios provoke refusals.
  page.on('response', (r) => !loaded && r.status() >= 400 && reject(new Error(`${r.status()} for ${r.url()}`)));
  page.on('crash', () => reject(new Error('the page crashed')));
  page.on('close', () => reject(new Error('the page was closed')));
  await page.exposeFunction('only', () => process.env.FANFARE_E2E_ONLY ?? '');
  await page.exposeFunction('turn', () => turns++);
  await page.exposeFunction('report', (line) => {
    loaded = true;
    report(line);
  });
  await page.goto(`${base}/js/page.html?${[encoding, door, ...fallback]}`);
}
