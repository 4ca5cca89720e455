// The page without an SDK: pushes of a unidirectional door, and the position from which it goes on at whatever node it comes back.
const $ = (id) => document.getElementById(id);
const { epoch, offset, over } = document.body.dataset;
const position = { epoch, offset: Number(offset) };
const most = 300; // messages on the page

const pause = () => 200 + 600 * Math.random(); // not all pages at once

function listen() {
  const connect = JSON.stringify({ subs: { room: { recover: true, ...position } } });
  let socket;
  let done = false;
  const again = () => {
    if (done) return;
    done = true;
    socket.close();
    $("node").dataset.state = "connecting";
    setTimeout(listen, pause());
  };
  if (over === "websocket") {
    socket = new WebSocket(`${location.origin.replace("http", "ws")}/realtime/uni_websocket`);
    socket.onopen = () => socket.send(connect);
    socket.onclose = again;
  } else {
    socket = new EventSource(`/realtime/uni_sse?cf_connect=${encodeURIComponent(connect)}`);
  }
  socket.onmessage = ({ data }) => data.split("\n").forEach((push) => push && heard(JSON.parse(push)));
  socket.onerror = again;
}

function heard({ connect, pub, join, leave }) {
  if (connect) served(connect);
  if (pub) show(pub);
  if (join || leave) refresh();
}

function served({ data, subs: { room } }) {
  if (!room.recovered) return location.reload(); // what is missing is nowhere any more: Redis has lost it
  const before = $("node").textContent;
  $("node").textContent = data.node;
  $("node").dataset.state = "live";
  const missed = room.publications ?? [];
  if (before !== "…") note(`Live from ${data.node} now, was ${before}: ${missed.length} missed in between.`);
  missed.forEach(show);
  refresh();
}

function show({ data: { from, text, node }, offset }) {
  position.offset = offset;
  $("offset").textContent = offset;
  const item = document.createElement("li");
  item.dataset.offset = offset;
  item.classList.toggle("clock", from === "clock");
  for (const [name, value] of Object.entries({ offset, from, text, node })) {
    const part = document.createElement("span");
    part.className = name;
    part.textContent = value;
    item.append(part, " ");
  }
  add(item);
}

function note(text) {
  const item = document.createElement("li");
  item.className = "note";
  item.textContent = text;
  add(item);
}

function add(item) {
  $("messages").prepend(item);
  while ($("messages").childElementCount > most) $("messages").lastElementChild.remove();
}

// say sends a message until a node has taken it. The key makes that once.
$("say").onsubmit = async (event) => {
  event.preventDefault();
  const form = event.target;
  const body = new URLSearchParams({ text: form.text.value, key: crypto.randomUUID() });
  form.reset();
  for (;;) {
    try {
      const reply = await fetch(form.action, { method: "POST", headers: { Accept: "application/json" }, body });
      if (reply.status < 500) return;
    } catch {
      // The same as an answer that says so.
    }
    await new Promise((resolve) => setTimeout(resolve, pause()));
  }
};

const load = async (path) => (await fetch(path, { signal: AbortSignal.timeout(2000) })).json();

// refresh shows what is beside the messages: asked for again and again, and at once when somebody has come or gone. The balancer
// knows the processes; what they do, and who is here, says any node.
let busy = new Map();
let up = new Set();
async function refresh() {
  await Promise.allSettled([load("/processes").then(showProcesses), load("/state").then(showState)]); // else what is shown stays
}

function showProcesses(list) {
  up = new Set(list.filter(({ addr }) => addr).map(({ name }) => name));
  $("processes").replaceChildren(...list.map(process));
}

function showState({ nodes, present }) {
  busy = new Map(nodes.map((node) => [node.name, node]));
  $("present").replaceChildren(...present.map(({ user, node }) => {
    const item = document.createElement("li");
    item.textContent = `${user} on ${node}`;
    item.classList.toggle("lost", !up.has(node));
    return item;
  }));
}

function process({ name, pid, starts }) {
  const lives = up.has(name);
  const node = lives && busy.get(name);
  const row = $("process").content.firstElementChild.cloneNode(true);
  const put = (part, text) => (row.querySelector(`.${part}`).textContent = text);
  row.dataset.process = name;
  row.dataset.up = lives;
  put("name", name);
  put("state", lives ? `pid ${pid}${starts > 1 ? `, life ${starts}` : ""}` : "down");
  put("clients", node ? node.clients : "");
  put("users", node ? node.users : "");
  const form = row.querySelector("form");
  form.action = `/kill/${name}`;
  form.onsubmit = (event) => {
    event.preventDefault();
    fetch(form.action, { method: "POST", redirect: "manual" }).finally(refresh);
  };
  const button = row.querySelector("button");
  button.ariaLabel = `Kill ${name}`;
  button.disabled = !lives;
  return row;
}

listen();
refresh();
setInterval(refresh, 1500);
