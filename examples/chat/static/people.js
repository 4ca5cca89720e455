// people.js keeps the list of who is in the room. The server has the list; joins and leaves keep ours right from the
// moment of connecting on. They tell of people, not of pages: realtime.go asks for that. They are a courtesy of the
// network and may be lost, so the list is read anew now and then.

const refreshEvery = 60_000;
const returnGrace = 15_000; // after a loss, others come back later than we

export function people({ me, url, notice, hue, initial }) {
  const list = document.getElementById("people-list");
  const template = document.getElementById("person-template").content.firstElementChild;
  let here = new Set();
  let waiting = null; // joins and leaves that arrived while the list was on its way
  let returning = new Set(); // who was here before the connection was lost

  async function refresh() {
    if (waiting) return;
    waiting = [];
    try {
      const reply = await fetch(url, { headers: { Accept: "application/json" }, signal: AbortSignal.timeout(10_000) });
      if (reply.ok) here = new Set((await reply.json()).people);
    } catch {
      // The next refresh, or the next connection, tries again.
    }
    const missed = waiting;
    waiting = null;
    for (const change of missed) change();
    render();
  }

  function join({ user }) {
    if (waiting) return void waiting.push(() => join({ user }));
    const known = here.has(user) || returning.has(user);
    here.add(user);
    render();
    if (!known && user !== me) notice(`${user} joined`);
  }

  function leave({ user }) {
    if (waiting) return void waiting.push(() => leave({ user }));
    if (!here.delete(user)) return;
    render();
    if (user !== me) notice(`${user} left`);
  }

  function render() {
    const names = [...here].sort((a, b) => (b === me) - (a === me) || a.localeCompare(b));
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
    for (const user of here) returning.add(user);
  }

  function connected() {
    const expected = returning;
    setTimeout(() => returning === expected && (returning = new Set()), returnGrace);
    refresh();
  }

  setInterval(refresh, refreshEvery);
  return { join, leave, lost, connected };
}
