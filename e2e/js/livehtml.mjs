// Drives examples/live-html: node livehtml.mjs CONTROL CHROMIUM SCREENSHOTS
import { equal, eventually, order, run, screenshots, wired } from './example.mjs';

const wide = { viewport: { width: 1100, height: 760 } };
const narrow = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };

class Scenario {
  constructor(browser) {
    Object.assign(this, { browser, errors: [], contexts: [] });
  }

  async open(path, options = wide) {
    const browser = await wired(this.browser, this.errors, options);
    this.contexts.push(browser.context);
    const page = await browser.context.newPage();
    const listening = options.javaScriptEnabled === false ? null : page.waitForResponse(/realtime\/events/);
    await page.goto(browser.url + path);
    await listening;
    return new Board(page, browser);
  }

  async end() {
    for (const context of this.contexts) await context.close();
    if (this.errors.length > 0) throw new Error(`errors in pages: ${this.errors.join('\n')}`);
  }
}

class Board {
  constructor(page, { cut, heal }) {
    Object.assign(this, { page, cut, heal });
  }

  /** rows are "what for whom: state", without what scenarios before have left. */
  async rows(mark) {
    const rows = await this.page.locator('tbody tr[id]').evaluateAll((rows) =>
      rows.map((row) => `${row.querySelector('strong').textContent} ${row.querySelector('.for').textContent}: ${row.querySelector('.state').textContent}`),
    );
    return rows.filter((row) => row.startsWith(mark));
  }

  sees(mark, rows) {
    // A page that is being loaded anew is looked at later.
    return eventually(`the board at ${this.page.url()}`, () => this.rows(mark).catch((err) => err.message), rows.map((row) => `${mark} ${row}`));
  }

  async order(what, name) {
    await this.page.getByLabel('What').fill(what);
    await this.page.getByLabel('For', { exact: true }).fill(name);
    await this.page.getByRole('button', { name: 'Order', exact: true }).click();
    await this.page.locator('tbody strong', { hasText: what }).last().waitFor();
  }

  press(what, button) {
    return this.page.locator('tbody tr', { hasText: what }).getByRole('button', { name: button }).click();
  }

  /** stays remembers the document, so that stayed tells whether it was loaded anew. */
  stays() {
    return this.page.evaluate(() => void (window.same = true));
  }

  async stayed() {
    equal('the same document', await this.page.evaluate(() => window.same), true);
  }
}

let marks = 0; // what a scenario orders begins with its own

/** both runs a scenario on the plain page and on htmx's. */
function both(name, scenario) {
  const mark = `#${++marks}`;
  return {
    [`plain: ${name}`]: (s) => scenario(s, '/', `${mark} plain`),
    [`htmx: ${name}`]: (s) => scenario(s, '/htmx', `${mark} htmx`),
  };
}

const scenarios = {
  ...both('rows change in another tab', async (s, path, mark) => {
    const [here, there] = [await s.open(path), await s.open(path)];
    await there.stays();
    await here.order(`${mark} tea`, 'Ada');
    for (const p of [here, there]) await p.sees(mark, ['tea for Ada: New']);
    await here.order(`${mark} cake`, '<img src=x onerror=alert(1)> & "Bob"');
    const cake = 'cake for <img src=x onerror=alert(1)> & "Bob"';
    await here.press(`${mark} tea`, 'Start');
    for (const p of [here, there]) await p.sees(mark, ['tea for Ada: Cooking', `${cake}: New`]);
    // What came live works as what came with the page.
    await there.press(`${mark} tea`, 'Done');
    for (const p of [here, there]) await p.sees(mark, ['tea for Ada: Ready', `${cake}: New`]);
    await here.press(`${mark} tea`, 'Serve');
    for (const p of [here, there]) await p.sees(mark, [`${cake}: New`]);
    equal('elements made of text', await there.page.locator('tbody img').count(), 0);
    if (path === '/htmx') await there.stayed();
  }),

  ...both('a page that was cut off catches up', async (s, path, mark) => {
    const [here, there] = [await s.open(path), await s.open(path)];
    for (const what of ['soup', 'bread', 'rice']) await here.order(`${mark} ${what}`, 'Ada');
    await there.sees(mark, ['soup for Ada: New', 'bread for Ada: New', 'rice for Ada: New']);
    await there.stays();
    await there.cut();
    await here.press(`${mark} soup`, 'Start');
    await here.sees(mark, ['soup for Ada: Cooking', 'bread for Ada: New', 'rice for Ada: New']);
    await here.press(`${mark} soup`, 'Done');
    await here.order(`${mark} fish`, 'Bob');
    await here.press(`${mark} bread`, 'Start');
    const now = ['soup for Ada: Ready', 'bread for Ada: Cooking', 'rice for Ada: New', 'fish for Bob: New'];
    await here.sees(mark, now);
    equal('what a cut page shows', (await there.rows(mark)).length, 3);
    await there.heal();
    await there.sees(mark, now);
    await there.stayed();
  }),

  ...both('an error page of a proxy does not end it', async (s, path, mark) => {
    const [here, there] = [await s.open(path), await s.open(path)];
    await here.order(`${mark} tea`, 'Ada');
    await there.sees(mark, ['tea for Ada: New']);
    await there.stays();
    let refused = 0;
    await there.page.route('**/realtime/events*', (route) => {
      refused++;
      return route.fulfill({ status: 502, body: 'no server' });
    });
    await there.cut();
    await there.heal();
    await eventually('refusals', () => refused > 0, true);
    await here.press(`${mark} tea`, 'Start');
    await there.page.unroute('**/realtime/events*');
    await there.sees(mark, ['tea for Ada: Cooking']);
    await here.press(`${mark} tea`, 'Done');
    await there.sees(mark, ['tea for Ada: Ready']);
    await there.stayed();
  }),

  // A new process knows nothing of the orders: that is a gap, and the page asks for all of it.
  ...both('a restarted server is a gap', async (s, path, mark) => {
    const [here, there] = [await s.open(path), await s.open(path)];
    await here.order(`${mark} tea`, 'Ada');
    await there.sees(mark, ['tea for Ada: New']);
    await order(path === '/' ? 'stop' : 'kill');
    await order('start');
    for (const p of [here, there]) await p.sees(mark, []);
    await here.order(`${mark} cake`, 'Bob');
    for (const p of [here, there]) await p.sees(mark, ['cake for Bob: New']);
  }),

  ...both('without JavaScript it is right when it is loaded', async (s, path, mark) => {
    const [here, there] = [await s.open(path), await s.open(path, { ...wide, javaScriptEnabled: false })];
    await here.order(`${mark} tea`, 'Ada');
    await there.page.reload();
    await there.sees(mark, ['tea for Ada: New']);
    await there.press(`${mark} tea`, 'Start');
    for (const p of [here, there]) await p.sees(mark, ['tea for Ada: Cooking']);
    await there.order(`${mark} cake`, 'Bob');
    for (const p of [here, there]) await p.sees(mark, ['tea for Ada: Cooking', 'cake for Bob: New']);
  }),

  async 'it looks as it should'(s) {
    const here = await s.open('/');
    await here.order('2 dumplings, 1 jasmine tea', 'Ada');
    await here.order('Noodle soup, no coriander', 'Grace Hopper');
    await here.order('A-very-long-word-that-somebody-typed-without-a-single-space', 'Linus');
    await here.press('dumplings', 'Start');
    await here.press('dumplings', 'Done');
    await here.press('Noodle', 'Start');
    await here.page.locator('.step-1', { hasText: 'Noodle' }).waitFor();
    for (const [name, options] of Object.entries({ wide, narrow, dark: { ...narrow, colorScheme: 'dark' } })) {
      const { page } = await s.open('/htmx', options);
      equal(`${name}: nothing is wider than the screen`, await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true);
      const buttons = await page.locator('tbody button').evaluateAll((list) => list.map((button) => button.offsetHeight));
      equal(`${name}: buttons of one line`, buttons.every((height) => height < 50), true);
      await page.screenshot({ path: `${screenshots}/live-html-${name}.png`, fullPage: true });
    }
  },
};

await run(scenarios, (browser) => new Scenario(browser));
