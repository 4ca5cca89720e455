// What the scripts that drive a program of examples/ in headless Chromium share: node SCRIPT CONTROL CHROMIUM SCREENSHOTS
// CONTROL is the test's endpoint for what a page cannot do: cut a wire, kill the server.
import { launch } from './browser.mjs';

const [control, executable, directory] = process.argv.slice(2);
export const screenshots = directory;
export const patience = 30_000;

const report = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const canonical = (v) => JSON.stringify(v);

export async function order(operation) {
  const reply = await fetch(`${control}/${operation}`, { method: 'POST' });
  const text = await reply.text();
  if (!reply.ok) throw new Error(`${operation}: ${text}`);
  return text;
}

export async function eventually(what, get, want) {
  let got;
  for (const end = Date.now() + patience; ; ) {
    got = await get();
    if (canonical(got) === canonical(want)) return;
    if (Date.now() > end) throw new Error(`${what}: got ${canonical(got)}, want ${canonical(want)}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

export function equal(what, got, want) {
  if (canonical(got) !== canonical(want)) throw new Error(`${what}: got ${canonical(got)}, want ${canonical(want)}`);
}

/** wired is a new browser profile with a wire of its own to the program. Errors of its pages go into errors. */
export async function wired(browser, errors, options) {
  const context = await browser.newContext(options);
  const { wire, url } = JSON.parse(await order('wire'));
  context.on('page', (page) => page.on('pageerror', (err) => errors.push(err.stack)));
  context.on('console', (message) => {
    // Chromium logs every failed connection, and some are cut on purpose. htmx logs the event.
    const network = /Failed to load resource|EventSource.s response has a status|WebSocket connection to|^\[object Event\]$/;
    if (message.type() === 'error' && !network.test(message.text())) errors.push(message.text());
  });
  return { context, url, cut: () => order(`cut/${wire}`), heal: () => order(`heal/${wire}`) };
}

/**
 * run runs scenarios one after the other, and prints a plan and one result each.
 * @param begin makes what a scenario gets, of a browser and a number: {end(), errors}
 */
export async function run(scenarios, begin) {
  const chosen = Object.keys(scenarios).filter((name) => new RegExp(process.env.FANFARE_E2E_ONLY || '').test(name));
  report({ planned: chosen });
  const browser = await launch(executable);
  try {
    for (const [i, name] of chosen.entries()) {
      const scenario = begin(browser, i + 1);
      const start = Date.now();
      let error = '';
      try {
        await scenarios[name](scenario);
      } catch (err) {
        error = `${err.stack}\n${scenario.errors.join('\n')}`;
      }
      try {
        await scenario.end();
      } catch (err) {
        error ||= err.message;
      }
      report({ name, ok: !error, error, ms: Date.now() - start });
    }
  } finally {
    await browser.close();
  }
}
