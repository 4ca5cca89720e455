// Drives examples/django-beside: node beside.mjs CONTROL CHROMIUM SCREENSHOTS APP LIVE
import { Centrifuge } from 'centrifuge';
import WebSocket from 'ws';
import { equal, eventually, order, run, screenshots } from './example.mjs';

const [app, live] = process.argv.slice(5);
const passwords = { ann: 'garden-gate', ben: 'tea-pot', eve: 'loud-owl' };
let marks = 0;

class Scenario {
  constructor(browser) {
    Object.assign(this, { browser, errors: [], contexts: [], clients: [], mark: `#${++marks}` });
  }

  async login(name, options = {}) {
    const context = await this.browser.newContext(options);
    this.contexts.push(context);
    context.on('page', (page) => page.on('pageerror', (err) => this.errors.push(err.stack)));
    context.on('console', (message) => {
      const network = /Failed to load resource|EventSource.s response has a status/;
      if (message.type() === 'error' && !network.test(message.text())) this.errors.push(message.text());
    });
    const page = await context.newPage();
    await page.goto(app);
    await page.getByLabel('Name').fill(name);
    await page.getByLabel('Password').fill(passwords[name]);
    const listening = options.javaScriptEnabled === false ? null : page.waitForResponse(/connection\/events/);
    await page.getByRole('button', { name: 'Log in' }).click();
    await listening;
    return { context, page };
  }

  /** sdk is a client of the published SDK with the cookies of a browser. */
  async sdk(context) {
    const Cookie = (await context.cookies()).map((c) => `${c.name}=${c.value}`).join('; ');
    class WithCookies extends WebSocket {
      constructor(url, protocols) {
        super(url, protocols, { headers: { Cookie } });
      }
    }
    const url = `${live.replace(/^http/, 'ws')}/connection/websocket`;
    const client = new Centrifuge(url, { websocket: WithCookies, minReconnectDelay: 50, maxReconnectDelay: 300 });
    const seen = [];
    client.on('connected', () => seen.push('connected'));
    client.on('connecting', (c) => seen.push(`connecting ${c.code}`));
    client.on('disconnected', (c) => seen.push(`disconnected ${c.code}`));
    client.on('error', (c) => seen.push(`error ${c.error.code}`));
    this.clients.push(client);
    return { client, seen };
  }

  async end() {
    for (const client of this.clients) client.disconnect();
    for (const context of this.contexts) await context.close();
    if (this.errors.length > 0) throw new Error(`errors in pages: ${this.errors.join('\n')}`);
  }
}

const shows = (page, text, n = 1) => eventually(`notes "${text}"`, () => page.locator('#notes li', { hasText: text }).count(), n);

async function save(page, text) {
  await page.getByLabel('Note').fill(text);
  await page.getByRole('button', { name: 'Save' }).click();
  await shows(page, text);
}

const scenarios = {
  async 'what one saves the other sees, and nobody else'(s) {
    const [ann, ben, eve] = [await s.login('ann'), await s.login('ben'), await s.login('eve')];
    await ben.page.evaluate(() => void (window.same = true));
    await save(ann.page, `${s.mark} water the <roses>`);
    await shows(ben.page, `ann ${s.mark} water the <roses>`);
    await save(ann.page, `${s.mark} twice`);
    await shows(ben.page, `${s.mark} twice`);
    equal('the same document', await ben.page.evaluate(() => window.same), true);
    equal('what eve sees', await eve.page.getByText(s.mark).count(), 0);
  },

  async 'logging out in one tab ends the others'(s) {
    const [ann, ben] = [await s.login('ann'), await s.login('ben')];
    const other = await ann.context.newPage();
    await other.goto(app);
    await other.getByRole('button', { name: 'Log out' }).click();
    await ann.page.getByRole('button', { name: 'Log in' }).waitFor();
    await save(ben.page, `${s.mark} still here`);
  },

  async 'while the app is away pages stay, and go on when it is back'(s) {
    const { page } = await s.login('ann');
    await page.evaluate(() => void (window.same = true));
    await order('stop');
    await order('publish');
    await shows(page, 'from elsewhere');
    await order('start');
    const ben = await s.login('ben');
    await save(ben.page, `${s.mark} back`);
    await shows(page, `${s.mark} back`);
    equal('the same document', await page.evaluate(() => window.same), true);
  },

  async 'without JavaScript it is right when it is loaded'(s) {
    const [ann, ben] = [await s.login('ann', { javaScriptEnabled: false }), await s.login('ben')];
    await save(ann.page, `${s.mark} plain`);
    await shows(ben.page, `${s.mark} plain`);
    await save(ben.page, `${s.mark} live`);
    await ann.page.reload();
    await shows(ann.page, `${s.mark} live`);
  },

  async 'the SDK: the app decides'(s) {
    const [ann, eve] = [await s.login('ann'), await s.login('eve')];
    const [{ client }, other] = [await s.sdk(ann.context), await s.sdk(eve.context)];
    client.connect();
    const sub = client.newSubscription('room:garden');
    const got = [];
    sub.on('publication', ({ data }) => got.push(data.html));
    sub.subscribe();
    await sub.ready();
    await save(ann.page, `${s.mark} hello`);
    await eventually('the publication', () => got.filter((html) => html.includes(s.mark)).length, 1);

    other.client.connect();
    const refused = other.client.newSubscription('room:garden');
    const ended = new Promise((resolve) => refused.once('unsubscribed', resolve));
    refused.subscribe();
    equal('what eve is told', (await ended).code, 103);
  },

  async 'the SDK: a new client waits for an app that is away, an old one notices nothing'(s) {
    const ann = await s.login('ann');
    const [old, late] = [await s.sdk(ann.context), await s.sdk(ann.context)];
    old.client.connect();
    await old.client.ready();
    await order('stop');
    late.client.connect();
    await eventually('tries', () => late.seen.filter((e) => e === 'error 100').length >= 3, true);
    equal('the old one', old.seen, ['connecting 0', 'connected']);
    equal('the new one', late.client.state, 'connecting');
    await order('start');
    await late.client.ready(20_000);
    equal('the old one', old.seen, ['connecting 0', 'connected']);
  },

  async 'the SDK: after logging out it does not come back, and does not loop'(s) {
    const [ann, again] = [await s.login('ann'), await s.login('ann')];
    const [out, stays] = [await s.sdk(ann.context), await s.sdk(again.context)];
    for (const { client } of [out, stays]) {
      client.connect();
      await client.ready();
    }
    await ann.page.getByRole('button', { name: 'Log out' }).click();
    await eventually('the end', () => out.client.state, 'disconnected');
    equal('what it saw', out.seen, ['connecting 0', 'connected', 'connecting 4000', 'disconnected 101']);
    await eventually('the session of another browser', () => stays.seen, ['connecting 0', 'connected', 'connecting 4000', 'connected']);
  },

  async 'it looks as it should'(s) {
    const { page, context } = await s.login('ann', { viewport: { width: 390, height: 700 }, deviceScaleFactor: 2, colorScheme: 'dark' });
    await save(page, 'The tomatoes want water, and the gate does not close by itself any more');
    await save(page, 'A-very-long-word-that-somebody-typed-without-a-single-space');
    equal('nothing is wider than the screen', await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true);
    await page.screenshot({ path: `${screenshots}/django-beside-narrow-dark.png`, fullPage: true });
    await page.setViewportSize({ width: 1000, height: 700 });
    await page.emulateMedia({ colorScheme: 'light' });
    await page.screenshot({ path: `${screenshots}/django-beside-wide.png`, fullPage: true });
    await context.clearCookies();
    await page.goto(app);
    await page.screenshot({ path: `${screenshots}/django-beside-login.png`, fullPage: true });
  },
};

await run(scenarios, (browser) => new Scenario(browser));
process.exit(0); // the SDK's timers would keep a finished run alive
