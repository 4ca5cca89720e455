// Drives examples/chat in headless Chromium: node chat.mjs CONTROL CHROMIUM SCREENSHOTS
// CONTROL is the test's endpoint for what a page cannot do: cut a wire, kill the server.
import { equal, eventually, order, patience, run, screenshots } from './example.mjs';

const desktop = { viewport: { width: 1280, height: 800 } };
const phone = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };
const numbered = (word, count) => Array.from({ length: count }, (_, i) => `${word} ${i + 1}`);

/** Person is one browser with its own profile, and its own wire to the server. */
class Person {
  constructor(scenario, name, context, wire, url) {
    Object.assign(this, { scenario, name, context, wire, url, storeReads: 0 });
  }

  /** open opens a page in the room, by way of the login if need be. */
  async open(path = `/rooms/${this.scenario.room}`) {
    const page = await this.context.newPage();
    this.page ??= page;
    page.on('pageerror', (err) => this.scenario.errors.push(`${this.name}: ${err.stack}`));
    page.on('console', (message) => {
      // Chromium logs every failed connection, and some are cut here on purpose.
      const network = /Failed to load resource|EventSource.s response has a status/.test(message.text());
      if (message.type() === 'error' && !network) this.scenario.errors.push(`${this.name}: ${message.text()}`);
    });
    page.on('request', (request) => {
      if (request.url().includes('messages?after=')) this.storeReads++;
    });
    await page.goto(this.url + path);
    if (page.url().includes('/login')) {
      await page.getByLabel('Your name').fill(this.name);
      await page.getByRole('button', { name: 'Join the chat' }).click();
    }
    return page;
  }

  async live(page = this.page) {
    await page.locator('#state[data-state=live]').waitFor({ timeout: patience });
  }

  async say(text, page = this.page) {
    await page.getByLabel('Message to').fill(text);
    await page.getByRole('button', { name: 'Send' }).click();
  }

  said(page = this.page) {
    return page.locator('#messages .message .text').allTextContents();
  }

  sees(texts, page = this.page) {
    return eventually(`messages on ${this.name}'s page`, () => this.said(page), texts);
  }

  here(names) {
    return eventually(`people on ${this.name}'s page`, () => this.page.locator('#people-list .person-name').allTextContents(), names);
  }

  notices(texts) {
    return eventually(`notices on ${this.name}'s page`, () => this.page.locator('#messages .notice').allTextContents(), texts);
  }

  /** post posts many messages as the page's script does, without waiting for the screen. */
  post(texts) {
    return this.page.evaluate(async (texts) => {
      for (const text of texts) {
        const body = new URLSearchParams({ key: `test-${text}`, text });
        const reply = await fetch(`${location.pathname}/messages`, { method: 'POST', headers: { Accept: 'application/json' }, body });
        if (!reply.ok) throw new Error(reply.statusText);
      }
    }, texts);
  }

  async cut() {
    await order(`cut/${this.wire}`);
    await this.page.locator('#state:not([data-state=live])').waitFor({ timeout: patience });
  }

  heal() {
    return order(`heal/${this.wire}`);
  }

  shot(name) {
    return this.page.screenshot({ path: `${screenshots}/${name}.png` });
  }
}

class Scenario {
  constructor(browser, number) {
    this.browser = browser;
    this.room = `room-${number}`;
    this.people = [];
    this.errors = [];
  }

  async person(name, options = desktop) {
    const context = await this.browser.newContext(options);
    const { wire, url } = JSON.parse(await order('wire'));
    const person = new Person(this, name, context, wire, url);
    this.people.push(person);
    return person;
  }

  /** talkers are people whose pages are open in the room and live. */
  async talkers(...names) {
    const people = [];
    for (const name of names) {
      const person = await this.person(name);
      if (people.length === 0) {
        // The first one opens the room.
        await person.open('/');
        await person.page.getByLabel('Open a new room').fill(this.room);
        await person.page.getByRole('button', { name: 'Open', exact: true }).click();
      } else {
        await person.open();
      }
      await person.live();
      people.push(person);
    }
    return people;
  }

  async end() {
    for (const person of this.people) await person.context.close();
    if (this.errors.length > 0) throw new Error(`errors in pages: ${this.errors.join('\n')}`);
  }
}

const scenarios = {
  async 'login refuses what is no name'(s) {
    const ada = await s.person('   ');
    const page = await ada.open('/rooms/lobby');
    equal('problem', await page.getByRole('alert').textContent(), 'Please enter a name.');
    equal('label', await page.getByLabel('Your name').getAttribute('aria-invalid'), 'true');
    await page.getByLabel('Your name').fill('Ada');
    await page.getByRole('button', { name: 'Join the chat' }).click();
    await ada.live();
    equal('address', new URL(page.url()).pathname, '/rooms/lobby');
  },

  async 'it looks as it should'(s) {
    s.room = 'lobby';
    const ada = await s.person('Ada Lovelace');
    await ada.open();
    await ada.live();
    const grace = await s.person('Grace Hopper', phone);
    await grace.open();
    await grace.live();
    const linus = await s.person('Linus', { ...desktop, colorScheme: 'dark' });
    await linus.open();
    await linus.live();
    const talk = [
      [ada, 'Morning! Did the new build survive the night?'],
      [grace, 'It did. Two restarts, and nobody lost a message.'],
      [grace, 'I watched the phones come back one after the other.'],
      [linus, 'Same here. The train went through four tunnels.'],
      [ada, 'Lovely. Then let us ship it:\n1. tag\n2. write the notes\n3. tea'],
      [grace, 'Tea first.'],
    ];
    for (const [i, [person, text]] of talk.entries()) {
      await person.say(text);
      for (const p of [ada, grace, linus]) await p.sees(talk.slice(0, i + 1).map(([, text]) => text));
    }
    await ada.here(['Ada Lovelace (you)', 'Grace Hopper', 'Linus']);
    for (const p of [ada, grace, linus]) {
      // What is said last is on the screen, and nothing is wider than it.
      const fits = await p.page.evaluate(() => {
        const last = [...document.querySelectorAll('#messages .message')].at(-1).getBoundingClientRect();
        const field = document.querySelector('#composer').getBoundingClientRect();
        return last.bottom <= field.top && field.bottom <= innerHeight && document.documentElement.scrollWidth <= innerWidth;
      });
      equal(`${p.name}'s page fits`, fits, true);
      // The dot of a state that is not live breathes for ever; all else comes to rest.
      await p.page.evaluate(() => Promise.all(document.getAnimations().map((animation) => animation.finished)));
    }
    await ada.shot('chat-desktop');
    await grace.shot('chat-phone');
    await linus.shot('chat-dark');
    await grace.page.getByRole('button', { name: '3' }).click();
    await grace.page.getByRole('complementary').waitFor();
    await grace.shot('chat-people');
    await ada.open('/').then((page) => page.screenshot({ path: `${screenshots}/chat-rooms.png` }));
    const visitor = await s.person('Visitor', phone);
    visitor.page = await visitor.context.newPage();
    await visitor.page.goto(`${visitor.url}/login`);
    await visitor.shot('chat-login');
  },

  async 'two browsers talk'(s) {
    const [ada, bob] = await s.talkers('Ada', 'Bob');
    const talk = ['Hello Bob', 'Hello Ada', '<img src=x onerror=alert(1)> & <b>bold</b>', 'first line\nsecond line'];
    for (const [i, text] of talk.entries()) {
      await [ada, bob][i % 2].say(text);
      for (const p of [ada, bob]) await p.sees(talk.slice(0, i + 1));
    }
    // Enter sends, too.
    await ada.page.getByLabel('Message to').pressSequentially('by keyboard');
    await ada.page.keyboard.press('Enter');
    talk.push('by keyboard');
    for (const p of [ada, bob]) await p.sees(talk);
    // Another page begins with what is stored.
    const page = await bob.open();
    await bob.live(page);
    equal('history', await bob.said(page), talk);
    equal('elements made of text', await page.locator('#messages b, #messages img').count(), 0);
  },

  async 'people come and go'(s) {
    const [ada, bob] = await s.talkers('Ada', 'Bob');
    await ada.here(['Ada (you)', 'Bob']);
    await bob.here(['Bob (you)', 'Ada']);
    await ada.notices(['Bob joined']);
    // A second page of the same person is no second person.
    const second = await bob.open();
    await bob.live(second);
    const cleo = await s.person('Cleo');
    await cleo.open();
    await ada.here(['Ada (you)', 'Bob', 'Cleo']);
    await second.close();
    // Who reloads is not said to leave.
    await cleo.page.reload();
    await cleo.live();
    await cleo.here(['Cleo (you)', 'Ada', 'Bob']);
    await bob.context.close();
    await ada.here(['Ada (you)', 'Cleo']);
    await ada.notices(['Bob joined', 'Cleo joined', 'Bob left']);
  },

  async 'a page that was cut off recovers'(s) {
    const [ada, bob] = await s.talkers('Ada', 'Bob');
    await ada.say('before');
    await bob.sees(['before']);
    await bob.cut();
    const missed = numbered('missed', 5);
    await ada.post(missed);
    await bob.say('written in the tunnel');
    await bob.page.locator('#outbox .stuck').waitFor();
    equal('what Bob sees', await bob.said(), ['before']);
    await bob.heal();
    for (const p of [ada, bob]) await p.sees(['before', ...missed, 'written in the tunnel']);
    await eventually('outbox', () => bob.page.locator('#outbox li').count(), 0);
    await bob.live();
    await ada.say('after');
    for (const p of [ada, bob]) await p.sees(['before', ...missed, 'written in the tunnel', 'after']);
    await ada.here(['Ada (you)', 'Bob']);
    equal('reads of the store: recovery was enough', bob.storeReads, 0);
  },

  async 'a page that missed more than is kept asks the store'(s) {
    const [ada, bob] = await s.talkers('Ada', 'Bob');
    await bob.cut();
    const missed = numbered('missed', 230);
    await ada.post(missed);
    await bob.heal();
    await bob.live();
    await bob.sees(missed);
    await ada.say('after');
    for (const p of [ada, bob]) await p.sees([...missed, 'after']);
    if (bob.storeReads < 2) throw new Error(`230 messages in ${bob.storeReads} reads of the store`);
  },

  async 'earlier messages are there'(s) {
    const [ada] = await s.talkers('Ada');
    const all = numbered('message', 120);
    await ada.post(all);
    await ada.page.reload();
    await ada.sees(all.slice(-50));
    await ada.page.getByRole('button', { name: 'Show earlier' }).click();
    await ada.sees(all.slice(-100));
    await ada.page.getByRole('button', { name: 'Show earlier' }).click();
    await ada.sees(all);
    equal('button', await ada.page.locator('#earlier').isVisible(), false);
  },

  async 'the server is killed and started again'(s) {
    const [ada, bob, cleo] = await s.talkers('Ada', 'Bob', 'Cleo');
    const talk = ['before'];
    await ada.say('before');
    for (const p of [ada, bob, cleo]) await p.sees(talk);
    // Bob misses two that only the store will remember.
    await bob.cut();
    await ada.post(['said to Cleo', 'and again']);
    talk.push('said to Cleo', 'and again');
    await cleo.sees(talk);

    await order('kill');
    await ada.page.locator('#state[data-state=waiting]').waitFor({ timeout: patience });
    await ada.say('said to nobody');
    await ada.page.locator('#outbox .stuck').waitFor({ timeout: patience });
    await bob.heal();
    await order('start');

    talk.push('said to nobody');
    for (const p of [ada, bob, cleo]) {
      await p.sees(talk);
      await p.live();
      if (p.storeReads === 0) throw new Error(`${p.name}'s page did not ask the store`);
    }
    await cleo.say('after');
    talk.push('after');
    for (const p of [ada, bob, cleo]) await p.sees(talk);
    await cleo.here(['Cleo (you)', 'Ada', 'Bob']);
    equal('what the store says', await bob.said(await bob.open()), talk);
  },

  async 'the server is shut down and started again'(s) {
    const [ada, bob] = await s.talkers('Ada', 'Bob');
    await ada.say('before');
    await order('stop');
    await ada.page.locator('#state[data-state=waiting]').waitFor({ timeout: patience });
    await order('start');
    for (const p of [ada, bob]) await p.live();
    await bob.say('after');
    for (const p of [ada, bob]) await p.sees(['before', 'after']);
  },

  async 'it works without scripts'(s) {
    const [ada] = await s.talkers('Ada');
    const bob = await s.person('Bob', { ...desktop, javaScriptEnabled: false });
    const page = await bob.open();
    await ada.say('for the record');
    await eventually('outbox', () => ada.page.locator('#outbox li').count(), 0);
    await page.reload();
    equal('history', await bob.said(), ['for the record']);
    await page.getByLabel('Message to').fill('by plain form');
    await page.getByRole('button', { name: 'Send' }).click();
    await bob.sees(['for the record', 'by plain form']);
    await ada.sees(['for the record', 'by plain form']);
  },

  // Whatever is no stream makes an EventSource give up.
  async 'a proxy whose server is away does not end the page'(s) {
    const [ada, bob] = await s.talkers('Ada', 'Bob');
    let refused = 0;
    await bob.page.route('**/realtime/events*', (route) => {
      refused++;
      return route.fulfill({ status: 502, body: 'no server' });
    });
    await bob.cut();
    await ada.post(['missed']);
    await bob.heal();
    await eventually('refusals', () => refused > 1, true);
    await bob.page.unroute('**/realtime/events*');
    for (const p of [ada, bob]) await p.sees(['missed']);
    await bob.live();
    equal('reads of the store: recovery was enough', bob.storeReads, 0);
  },

  // A page that does not even hear pings is on a dead network.
  async 'a stream that is silent, or not to be trusted, is opened anew'(s) {
    const [ada] = await s.talkers('Ada');
    const bob = await s.person('Bob');
    await bob.context.clock.install();
    const page = await bob.open();
    await bob.live();
    for (const distrust of [
      () => page.clock.fastForward('01:10'),
      () => page.evaluate(() => dispatchEvent(new Event('online'))),
    ]) {
      const again = page.waitForRequest(/realtime\/events\?.*cursor=/);
      await distrust();
      await again;
      await bob.live();
    }
    await ada.say('after');
    await bob.sees(['after']);
    equal('reads of the store', bob.storeReads, 0);
  },

  async 'a session that is over leads to the login'(s) {
    const [ada, bob] = await s.talkers('Ada', 'Bob');
    await bob.context.clearCookies();
    await bob.cut();
    await bob.heal();
    await bob.page.waitForURL('**/login?next=*', { timeout: patience });
    await ada.here(['Ada (you)']);
  },

  async 'a session that ends takes its streams along'(s) {
    const [ada, bob] = await s.talkers('Ada', 'Bob');
    const other = await bob.open('/');
    await other.getByRole('button', { name: 'Sign out' }).click();
    await bob.page.waitForURL('**/login?next=*', { timeout: patience });
    await ada.here(['Ada (you)']);
  },
};

await run(scenarios, (browser, number) => new Scenario(browser, number));
