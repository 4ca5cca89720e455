// Drives examples/cluster: node cluster.mjs CONTROL CHROMIUM SCREENSHOTS
import { createConnection } from 'node:net';
import { equal, eventually, order, patience, run, screenshots, wired } from './example.mjs';

const wide = { viewport: { width: 1100, height: 900 } };
const narrow = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };
const nodes = ['node-1', 'node-2', 'node-3'];

class Scenario {
  constructor(browser) {
    Object.assign(this, { browser, errors: [], contexts: [] });
  }

  async open(path = '/', options = wide) {
    const { context, url } = await wired(this.browser, this.errors, options);
    this.contexts.push(context);
    const page = await context.newPage();
    await page.goto(url + path);
    const visitor = new Visitor(page, url);
    await visitor.live();
    return visitor;
  }

  async end() {
    for (const context of this.contexts) await context.close();
    if (this.errors.length > 0) throw new Error(`errors in pages: ${this.errors.join('\n')}`);
  }
}

/** Visitor is a browser of its own with the page open. */
class Visitor {
  constructor(page, url) {
    Object.assign(this, { page, url });
  }

  async live() {
    await this.page.locator('#node[data-state=live]').waitFor({ timeout: patience });
    return this.node();
  }

  node() {
    return this.page.locator('#node').textContent();
  }

  /** moved returns when the page has come back more often than that. */
  async moved(times) {
    await this.page.locator('.note').nth(times).waitFor({ timeout: patience });
    return this.live();
  }

  moves() {
    return this.page.locator('.note').count();
  }

  async say(text) {
    await this.page.getByLabel('Say as').fill(text);
    await this.page.getByRole('button', { name: 'Say' }).click();
  }

  /** said is what people said, the oldest first. */
  async said(mark) {
    const texts = await this.page.locator('#messages li:not(.clock):not(.note) .text').allTextContents();
    return texts.filter((text) => text.startsWith(mark)).reverse();
  }

  sees(mark, texts) {
    return eventually(`messages on the page`, () => this.said(mark), texts);
  }

  /** whole expects that the messages on the page, the clock's too, are those of the stream: each once, in order, none missing. */
  async whole() {
    const offsets = await this.page.locator('#messages li[data-offset]').evaluateAll((list) => list.map((item) => Number(item.dataset.offset)));
    offsets.forEach((offset, i) => i > 0 && equal('the next position', offset, offsets[i - 1] - 1));
  }

  /** kill presses a button, and returns when the process has died. */
  async kill(name) {
    const row = this.page.locator(`tr[data-process=${name}]`);
    const pid = await row.locator('.state').textContent();
    await row.getByRole('button').click();
    await eventually(`the death of ${name}`, async () => (await row.locator('.state').textContent()) === pid, false);
  }

  async up(name) {
    await this.page.locator(`tr[data-process=${name}][data-up=true]`).waitFor({ timeout: patience });
  }

  /** posts lets a node say something, without a page. */
  async post(text) {
    const body = new URLSearchParams({ text });
    const reply = await fetch(`${this.url}/messages`, { method: 'POST', headers: { Accept: 'application/json' }, body });
    return reply.ok;
  }

  processes() {
    return fetch(`${this.url}/processes`).then((reply) => reply.json());
  }
}

/** answers tells whether somebody listens at an address. */
function answers(address) {
  const [host, port] = address.split(':');
  return new Promise((resolve) => {
    const socket = createConnection({ host, port });
    socket.on('connect', () => resolve(true)).on('error', () => resolve(false)).on('connect', () => socket.destroy());
  });
}

let marks = 0; // what a scenario says begins with its own

/** both runs a scenario over server-sent events and over a WebSocket. */
function both(name, scenario) {
  const mark = `#${++marks}`;
  return {
    [`sse: ${name}`]: (s) => scenario(s, '/', `${mark} sse`),
    [`websocket: ${name}`]: (s) => scenario(s, '/?over=websocket', `${mark} websocket`),
  };
}

const scenarios = {
  ...both('what is said on one page is on the other', async (s, path, mark) => {
    const [here, there] = [await s.open(path), await s.open(path)];
    await here.say(`${mark} hello`);
    await there.sees(mark, [`${mark} hello`]);
    await there.say(`${mark} <img src=x onerror=alert(1)>`);
    for (const p of [here, there]) await p.sees(mark, [`${mark} hello`, `${mark} <img src=x onerror=alert(1)>`]);
    for (const p of [here, there]) {
      await p.whole();
      await eventually('who is here', () => p.page.locator('#present li').count().then((n) => n >= 2), true);
    }
  }),

  ...both('every node is killed in turn, and nothing is lost', async (s, path, mark) => {
    const [here, there] = [await s.open(path), await s.open(path)];
    await here.page.evaluate(() => void (window.same = true));
    const said = [];
    for (const name of nodes) {
      for (let i = 0; i < 5; i++) {
        said.push(`${mark} before ${name} ${i}`);
        await there.say(said.at(-1));
        await there.sees(mark, said); // one person says one thing after the other
      }
      const [served, moves] = [await here.node(), await here.moves()];
      await here.kill(name);
      for (let i = 0; i < 5; i++) {
        said.push(`${mark} after ${name} ${i}`);
        await there.say(said.at(-1));
        await there.sees(mark, said);
      }
      if (served === name) await here.moved(moves);
      await here.sees(mark, said);
      await here.up(name);
    }
    for (const p of [here, there]) await p.whole();
    equal('the same document', await here.page.evaluate(() => window.same), true);
  }),

  async 'the node that serves the page is killed, again and again'(s) {
    const here = await s.open();
    const seen = new Set();
    const said = [];
    for (let i = 0; i < 4; i++) {
      const name = await here.live();
      seen.add(name);
      await here.up(name);
      const moves = await here.moves();
      await here.kill(name);
      said.push(`#again ${i}`);
      await here.say(said.at(-1));
      await here.moved(moves);
      await here.sees('#again', said);
    }
    equal('more than one node', seen.size > 1, true);
    await here.whole();
    for (const name of nodes) await here.up(name);
  },

  async 'who was on a node that was killed is not here for long'(s) {
    const here = await s.open();
    const there = await s.open();
    const name = await there.node();
    await there.page.close();
    await eventually('one is here', () => here.page.locator('#present li').count(), 1);
    await here.up(name);
    const [mine, moves] = [await here.live(), await here.moves()];
    await here.kill(mine);
    await here.moved(moves);
    // The connection of the dead node goes with its lease.
    const where = async () => (await here.page.locator('#present li').allTextContents()).map((text) => text.split(' on ')[1]);
    await eventually('one is here', where, [await here.node()]);
    await here.up(mine);
  },

  // It comes back empty, which is another stream: the page begins anew.
  async 'Redis is killed'(s) {
    const here = await s.open();
    await here.say('#redis before');
    await here.sees('#redis', ['#redis before']);
    const epoch = await here.page.locator('#epoch').textContent();
    await here.kill('redis');
    await eventually('another stream', () => here.page.locator('#epoch').textContent().then((now) => now !== epoch, () => false), true);
    await here.live();
    await here.say('#redis after'); // until a node takes it
    await here.sees('#redis', ['#redis after']);
    await here.whole();
  },

  async 'the balancer ends what it has started, also when it is killed'(s) {
    const here = await s.open();
    await here.page.close();
    for (const how of ['kill', 'stop']) {
      const addresses = (await here.processes()).map((p) => p.addr);
      equal('who serves', await Promise.all(addresses.map(answers)), [true, true, true, true]);
      await order(how);
      await eventually(`who serves after ${how}`, () => Promise.all(addresses.map(answers)), [false, false, false, false]);
      await order('start');
      await eventually('a new cluster', () => here.processes().then((list) => list.length, (err) => err.message), 4);
    }
  },

  async 'it looks as it should'(s) {
    const here = await s.open();
    const others = [await s.open('/?over=websocket'), await s.open()];
    await here.say('Good morning from the first page');
    await others[0].say('And from the second one, over a WebSocket, with a text that is a bit longer');
    await here.kill(await here.node());
    await here.moved(0);
    await others[1].say('Still here?');
    await here.sees('Still here?', ['Still here?']);
    await here.page.locator('tr[data-up=true] .clients', { hasText: /[1-9]/ }).first().waitFor();
    await here.page.screenshot({ path: `${screenshots}/cluster-wide.png`, fullPage: true });
    for (const [name, options] of Object.entries({ narrow, dark: { ...narrow, colorScheme: 'dark' } })) {
      const { page } = await s.open('/', options);
      for (const part of ['tr[data-process]', '#present li']) await page.locator(part).first().waitFor();
      equal(`${name}: nothing is wider than the screen`, await page.evaluate(() => document.documentElement.scrollWidth), options.viewport.width);
      await page.screenshot({ path: `${screenshots}/cluster-${name}.png`, fullPage: true });
    }
  },
};

await run(scenarios, (browser) => new Scenario(browser));
