// people.js keeps the list of who is in the room. The server has the list; joins and leaves keep ours right from the
// moment of connecting on. They are a courtesy of the network and may be lost, so the list is read anew now and then.

const refreshEvery = 60_000;
const reloadGrace = 3_000; // who reloads a page leaves and comes back
const returnGrace = 15_000; // after a loss, others come back later than we

export function people({ me, url, notice, hue, initial }) {
  const list = document.getElementById("people-list");
  const template = document.getElementById("person-template").content.firstElementChild;
  const clients = new Map(); // client id -> user, one for each open page
  const leaving = new Map(); // user -> timer of the notice
  let waiting = null; // joins and leaves that arrived while the list was on its way
  let returning = new Set(); // who was here before the connection was lost

  const isHere = (user) => [...clients.values()].includes(user);

  async function refresh() {
    if (waiting) return;
    waiting = [];
    try {
      const reply = await fetch(url, { headers: { Accept: "application/json" }, signal: AbortSignal.timeout(10_000) });
      if (reply.ok) {
        const { people } = await reply.json();
        clients.clear();
        for (const { client, user } of people) clients.set(client, user);
      }
    } catch {
      // The next refresh, or the next connection, tries again.
    }
    const missed = waiting;
    waiting = null;
    for (const change of missed) change();
    render();
  }

  function join({ client, user }) {
    if (waiting) return void waiting.push(() => join({ client, user }));
    const known = isHere(user) || returning.has(user);
    clients.set(client, user);
    render();
    if (leaving.has(user)) {
      clearTimeout(leaving.get(user));
      leaving.delete(user);
    } else if (!known && user !== me) {
      notice(`${user} joined`);
    }
  }

  function leave({ client, user }) {
    if (waiting) return void waiting.push(() => leave({ client, user }));
    if (!clients.delete(client) || isHere(user)) return;
    render();
    if (user === me) return;
    const timer = setTimeout(() => {
      leaving.delete(user);
      notice(`${user} left`);
    }, reloadGrace);
    leaving.set(user, timer);
  }

  function render() {
    const names = [...new Set(clients.values())].sort((a, b) => (b === me) - (a === me) || a.localeCompare(b));
    list.replaceChildren(
      ...names.map((name) => {
        const item = template.cloneNode(true);
        const avatar = item.querySelector(".avatar");
        item.dataset.user = name;
        avatar.className = `avatar hue-${hue(name)}`;
        avatar.textContent = initial(name);
        item.querySelector(".person-name").textContent = name === me ? `${name} (you)` : name;
        return item;
      }),
    );
    for (const count of document.querySelectorAll(".people-count")) count.textContent = names.length;
  }

  function lost() {
    for (const user of clients.values()) returning.add(user);
  }

  function connected() {
    const expected = returning;
    setTimeout(() => returning === expected && (returning = new Set()), returnGrace);
    refresh();
  }

  setInterval(refresh, refreshEvery);
  return { join, leave, lost, connected };
}
