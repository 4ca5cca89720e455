import { Scenario } from './harness.mjs';
import { fallback } from './scenarios/fallback.mjs';
import { plain } from './scenarios/plain.mjs';
import { plainSession } from './scenarios/session.mjs';
import { oneNodeOnly, scenarios, webSocketOnly } from './scenarios.mjs';
import { tokens } from './scenarios/tokens.mjs';

/** The time that a scenario may take, in ms. Long, because only one that hangs takes as much. */
const limit = 120_000;

/**
 * run runs the scenarios whose names match only, a few at a time, and reports a plan and one result each. Several pages may
 * share them: turn tells, across all of them, whose turn it is.
 * @param env {base, encoding, door, options, Centrifuge, WebSocket, EventSource, foreign} what differs between Node and a page;
 *   with the door "fallback", which is a list of them, also {expect, node, via}, see scenarios/fallback.mjs; "plain" is what
 *   needs no SDK, and uses it over a WebSocket where it meets it; "tokens" are those of a node that wants tokens. What env expects
 *   may be "cluster": then each request meets one of several nodes
 * @param turn returns 0, 1, 2 and so on
 */
export async function run(env, { only, report, turn }) {
  const all = { fallback: () => fallback(env), plain: () => ({ ...plain, ...plainSession }), tokens: () => tokens }[env.door]?.() ?? scenarios;
  const fits = (name) => (env.door === 'websocket' || !webSocketOnly.has(name)) && (env.expect !== 'cluster' || !oneNodeOnly.has(name));
  const queue = Object.entries(all).filter(([name]) => fits(name) && new RegExp(only || '').test(name));
  await report({ planned: queue.map(([name]) => name) });
  const worker = async () => {
    for (let next = queue[await turn()]; next; next = queue[await turn()]) await report(await runOne(env, ...next));
  };
  // Browsers have six connections to a server, and a stream holds one.
  const atOnce = env.door !== 'websocket' && globalThis.document ? 1 : 8;
  await Promise.all(Array.from({ length: atOnce }, worker));
}

async function runOne(env, name, fn) {
  const scenario = new Scenario(env, name);
  const start = Date.now();
  let timer;
  const overtime = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done within ${limit} ms`)), limit);
  });
  try {
    await Promise.race([fn(scenario), overtime]);
    return { name, ok: true, ms: Date.now() - start };
  } catch (err) {
    return { name, ok: false, error: `${err.stack || err.message || JSON.stringify(err)}`, ms: Date.now() - start };
  } finally {
    clearTimeout(timer);
    scenario.end();
  }
}
