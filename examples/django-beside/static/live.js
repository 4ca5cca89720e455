// Without this the page is right when it is loaded. With it, it stays so.
const notes = document.getElementById("notes");

// Where a note goes is said by its number: two that are saved at once may come in either order, or be there already.
function add({ id, html }) {
  const items = [...notes.children];
  if (items.some((item) => Number(item.dataset.id) === id)) return;
  const next = items.find((item) => Number(item.dataset.id) > id);
  if (next) next.insertAdjacentHTML("beforebegin", html);
  else notes.insertAdjacentHTML("beforeend", html);
}

// The list as it is now. Who is logged out sees the login instead.
async function refresh() {
  const answer = await fetch("?part=notes");
  if (answer.redirected || !answer.ok) location.reload();
  else notes.innerHTML = await answer.text();
}

function listen() {
  const live = new EventSource(document.body.dataset.stream, { withCredentials: true });
  // From here on everything comes; what was saved between the page and this moment is fetched.
  live.addEventListener("ready", () => refresh().catch(() => {}), { once: true });
  live.addEventListener("publication", ({ data }) => add(JSON.parse(data)));
  live.addEventListener("gap", () => refresh().catch(() => {}));
  live.onerror = () => {
    if (live.readyState !== EventSource.CLOSED) return; // the browser comes back by itself
    // It was refused: because the session is over, which the app knows, or by a proxy that found nobody.
    refresh().catch(() => {}).then(() => setTimeout(listen, 2000 + 2000 * Math.random()));
  };
}
listen();
