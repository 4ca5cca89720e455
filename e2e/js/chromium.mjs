// Runs the scenarios in headless Chromium: node chromium.mjs BASE json|protobuf websocket|http_stream|sse CHROMIUM
import { launch } from './browser.mjs';

const [base, encoding, door, executable] = process.argv.slice(2);
const browser = await launch(executable);
try {
  const page = await browser.newPage();
  let planned = -1;
  let done = 0;
  await new Promise((resolve, reject) => {
    page.on('pageerror', (err) => reject(new Error(`page error: ${err.stack}`)));
    // A script that does not load raises no page error. Later on, scenarios provoke refusals.
    page.on('response', (r) => planned < 0 && r.status() >= 400 && reject(new Error(`${r.status()} for ${r.url()}`)));
    page.on('crash', () => reject(new Error('the page crashed')));
    page.on('close', () => reject(new Error('the page was closed')));
    const start = async () => {
      await page.exposeFunction('only', () => process.env.FANFARE_E2E_ONLY ?? '');
      await page.exposeFunction('report', (line) => {
        process.stdout.write(`${JSON.stringify(line)}\n`);
        if (line.planned) planned = line.planned.length;
        else done++;
        if (done === planned) resolve();
      });
      await page.goto(`${base}/js/page.html?${encoding},${door}`);
    };
    start().catch(reject);
  });
} finally {
  await browser.close();
}
