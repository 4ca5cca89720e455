// The page of examples/sdk: the published SDK against a fanfare node, and nothing of fanfare's own in between.
import { Centrifuge } from "centrifuge";

const $ = (id) => document.getElementById(id);

$("enter").onsubmit = (event) => {
  event.preventDefault();
  enter(new FormData(event.target).get("name").trim());
};

function enter(name) {
  const base = `${location.origin}/realtime`;
  const client = new Centrifuge(
    // In this order: where a proxy lets no WebSocket through, the SDK takes the next one by itself.
    [
      { transport: "websocket", endpoint: `${base.replace("http", "ws")}/websocket` },
      { transport: "http_stream", endpoint: `${base}/http_stream` },
      { transport: "sse", endpoint: `${base}/sse` },
    ],
    { emulationEndpoint: `${base}/emulation`, data: { name } },
  );
  client.on("connecting", ({ reason }) => show("connecting", `Connecting: ${reason}`));
  client.on("connected", ({ transport }) => show("connected", `Connected by ${transport}`));
  client.on("disconnected", ({ reason }) => show("disconnected", `Disconnected: ${reason}`));

  const room = client.newSubscription("room", { joinLeave: true });
  room.on("publication", add);
  let whole = false; // everything that the node keeps is on the page
  room.on("subscribed", async ({ recovered }) => {
    whoIsHere(room);
    if (recovered && whole) return; // what was missed comes as publications
    // The first time, and when more was missed than the node keeps: begin with what there is.
    whole = false;
    messages.clear();
    $("messages").replaceChildren();
    try {
      const { publications } = await room.history({ limit: -1 });
      publications.forEach(add);
      whole = true;
    } catch {
      // The connection is lost again: the next "subscribed" asks again.
    }
  });
  room.on("join", () => whoIsHere(room));
  room.on("leave", () => whoIsHere(room));
  room.on("unsubscribed", ({ reason }) => ($("problem").textContent = reason));
  room.subscribe();
  client.connect();

  $("enter").hidden = true;
  document.querySelector("main").hidden = false;
  $("say").onsubmit = (event) => {
    event.preventDefault();
    say(room, event.target.elements.text);
  };
  $("say").elements.text.focus();
}

function show(state, text) {
  $("state").dataset.state = state;
  $("state").textContent = text;
}

// Messages by offset: history and what comes live meanwhile may overlap.
const messages = new Map();

function add({ offset, data, info }) {
  if (messages.has(offset)) return;
  const item = document.createElement("li");
  const author = document.createElement("strong");
  author.textContent = info?.user ?? "";
  item.append(author, ` ${data.text}`);
  messages.set(offset, item);
  const next = [...messages.keys()].filter((other) => other > offset).sort((a, b) => a - b)[0];
  $("messages").insertBefore(item, messages.get(next) ?? null);
  item.scrollIntoView({ block: "nearest" });
}

async function say(room, field) {
  const text = field.value.trim();
  if (!text) return;
  try {
    await room.publish({ text }); // awaits the connection
    field.value = "";
    $("problem").textContent = "";
  } catch (err) {
    $("problem").textContent = `Not sent: ${err.message}`; // it stays in the field
  }
}

let asked = 0;
async function whoIsHere(room) {
  const mine = ++asked;
  try {
    const { clients } = await room.presence();
    const names = new Set(Object.values(clients).map(({ user }) => user));
    if (mine === asked) $("people").textContent = [...names].sort().join(", ");
  } catch {
    // The connection is lost: the next "subscribed" asks again.
  }
}
