// Drives examples/sdk, built by Vite: node sdkpage.mjs CONTROL CHROMIUM SCREENSHOTS
import { equal, eventually, order, patience, run, screenshots, wired } from './example.mjs';

class Scenario {
  constructor(browser) {
    Object.assign(this, { browser, errors: [], contexts: [] });
  }

  /** enter opens the page under a name. before runs in the page ahead of its own script. */
  async enter(name, before) {
    const { context, url, cut, heal } = await wired(this.browser, this.errors, { viewport: { width: 900, height: 700 } });
    this.contexts.push(context);
    if (before) await context.addInitScript(before);
    const page = await context.newPage();
    await page.goto(url);
    await page.getByLabel('Your name').fill(name);
    await page.getByRole('button', { name: 'Come in' }).click();
    const person = new Person(name, page, cut, heal);
    await person.is('connected');
    return person;
  }

  async end() {
    for (const context of this.contexts) await context.close();
    if (this.errors.length > 0) throw new Error(`errors in pages: ${this.errors.join('\n')}`);
    await order('stop'); // the room forgets
    await order('start');
  }
}

class Person {
  constructor(name, page, cut, heal) {
    Object.assign(this, { name, page, cut, heal });
  }

  is(state) {
    return this.page.locator(`#state[data-state=${state}]`).waitFor({ timeout: patience });
  }

  async by(transport) {
    equal(`${this.name}'s state`, await this.page.locator('#state').textContent(), `Connected by ${transport}`);
  }

  async say(text) {
    await this.page.getByLabel('Message').fill(text);
    await this.page.getByRole('button', { name: 'Send' }).click();
  }

  sees(messages) {
    return eventually(`messages on ${this.name}'s page`, () => this.page.locator('#messages li').allTextContents(), messages);
  }

  here(names) {
    return eventually(`people on ${this.name}'s page`, () => this.page.locator('#people').textContent(), names.join(', '));
  }
}

const scenarios = {
  async 'two pages talk'(s) {
    const ada = await s.enter('Ada');
    await ada.by('websocket');
    await ada.say('first');
    const bob = await s.enter('Bob');
    await bob.sees(['Ada first']); // from history
    for (const p of [ada, bob]) await p.here(['Ada', 'Bob']);
    await bob.say('<b>hello</b>');
    await ada.say('hi');
    await eventually('three messages', () => ada.page.locator('#messages li').count(), 3);
    await bob.sees(await ada.page.locator('#messages li').allTextContents());
    equal('elements made of text', await ada.page.locator('#messages b').count(), 0);
    await ada.page.screenshot({ path: `${screenshots}/sdk.png` });
    await bob.page.close();
    await ada.here(['Ada']);
  },

  async 'a page that was cut off recovers'(s) {
    const ada = await s.enter('Ada');
    const bob = await s.enter('Bob');
    await ada.here(['Ada', 'Bob']);
    await ada.say('before');
    await bob.sees(['Ada before']);
    await bob.cut();
    await bob.is('connecting');
    await ada.say('missed');
    await ada.sees(['Ada before', 'Ada missed']);
    await bob.heal();
    await bob.sees(['Ada before', 'Ada missed']);
    await bob.is('connected');
    await bob.say('back');
    for (const p of [ada, bob]) await p.sees(['Ada before', 'Ada missed', 'Bob back']);
  },

  async 'a server that forgot is no hole'(s) {
    const ada = await s.enter('Ada');
    await ada.say('before');
    await ada.sees(['Ada before']);
    await order('kill');
    await ada.is('connecting');
    await order('start');
    await ada.is('connected');
    await ada.sees([]);
    await ada.say('after');
    await ada.sees(['Ada after']);
  },

  async 'without WebSocket it falls back'(s) {
    const stream = await s.enter('Stream', () => delete window.WebSocket);
    await stream.by('http_stream');
    const events = await s.enter('Events', () => {
      delete window.WebSocket;
      delete window.ReadableStream;
    });
    await events.by('sse');
    await stream.here(['Events', 'Stream']);
    await stream.say('one');
    await events.sees(['Stream one']);
    await events.say('two');
    await stream.sees(['Stream one', 'Events two']);
  },
};

await run(scenarios, (browser) => new Scenario(browser));
