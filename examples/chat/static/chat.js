// chat.js is the room's page: what is said, who is here, and sending. Everything that comes from people is put in by
// textContent, never as HTML.
import { live } from "./realtime.js";
import { people } from "./people.js";
import { outbox } from "./outbox.js";

const { user: me, room, cursor } = document.body.dataset;
const base = `/rooms/${encodeURIComponent(room)}`;
const $ = (id) => document.getElementById(id);
const log = $("log");
const list = $("messages");
const template = $("message-template").content.firstElementChild;
const mostShown = 600;

// Ids of messages are dense, so what is on the page is described by its first id, and the last one up to which nothing
// is missing. beyond holds what arrived ahead of a gap.
const shown = [...list.querySelectorAll("[data-id]")].map((item) => Number(item.dataset.id));
let first = shown[0] ?? 1;
let upTo = shown.at(-1) ?? 0;
const beyond = new Set();

// add shows a message in its place, once, however often and wherever from it comes.
function add(message) {
  // A key is unique for its sender only.
  if (message.user === me) sending.settle(message.key);
  if (message.id <= upTo || beyond.has(message.id)) return;
  const follow = atEnd() || message.user === me;
  insert(message, nextAfter(message.id));
  beyond.add(message.id);
  while (beyond.delete(upTo + 1)) upTo++;
  if (beyond.size > 0 && $("state").dataset.state === "live") catchUp(); // else the stream brings it when it is back
  scrollOn(follow);
  if (document.hidden && message.user !== me) countUnread(1);
}

function insert(message, before) {
  const item = template.cloneNode(true);
  item.dataset.id = message.id;
  item.dataset.user = message.user;
  item.classList.toggle("own", message.user === me);
  dress(item.querySelector(".avatar"), message.user, initial(message.user));
  dress(item.querySelector(".author"), message.user, message.user);
  item.querySelector("time").dateTime = message.at;
  item.querySelector(".text").textContent = message.text;
  showTime(item);
  list.insertBefore(item, before);
  group(item);
  group(item.nextElementSibling);
  $("empty").hidden = true;
}

// nextAfter finds the first shown message with a higher id. It is nearly always none.
function nextAfter(id) {
  let next = null;
  for (let item = list.lastElementChild; item; item = item.previousElementSibling) {
    if (!item.dataset.id) continue;
    if (Number(item.dataset.id) < id) break;
    next = item;
  }
  return next;
}

// group makes a message that follows another of the same person, within minutes, look like a part of it.
function group(item) {
  if (!item?.dataset.id) return;
  const last = item.previousElementSibling;
  const at = (i) => new Date(i.querySelector("time").dateTime);
  const joined = last?.dataset.id && last.dataset.user === item.dataset.user && at(item) - at(last) < 5 * 60_000;
  item.classList.toggle("grouped", Boolean(joined));
}

function dress(element, name, text) {
  element.className = element.className.replace(/hue-\d+/, `hue-${hue(name)}`);
  element.textContent = text;
}

// hue and initial do what their namesakes in app.go do.
function hue(name) {
  return [...name].reduce((sum, letter) => sum + letter.codePointAt(0), 0) % 12;
}

function initial(name) {
  return ([...name][0] ?? "").toUpperCase();
}

function showTime(item) {
  const element = item.querySelector("time");
  const at = new Date(element.dateTime);
  const time = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  const today = at.toDateString() === new Date().toDateString();
  element.textContent = today ? time : `${at.toLocaleDateString([], { day: "numeric", month: "short" })}, ${time}`;
  element.title = at.toLocaleString();
}

// catchUp loads what the page misses from the app's store. It goes on until it has it: a page that has given up would
// look as if nobody had said anything.
let catching = false;
let again = false;
async function catchUp() {
  again = true;
  if (catching) return;
  catching = true;
  while (again) {
    again = false;
    try {
      const asked = upTo; // live messages go on arriving
      const { messages, more, last } = await load(`after=${asked}`);
      if (last < asked) location.reload(); // the store has lost what this page shows
      messages.forEach(add);
      again ||= more;
    } catch {
      again = true;
      await new Promise((resolve) => setTimeout(resolve, 1000 + 2000 * Math.random()));
    }
  }
  catching = false;
}

async function load(query) {
  const reply = await fetch(`${base}/messages?${query}`, {
    headers: { Accept: "application/json" },
    signal: AbortSignal.timeout(10_000),
  });
  if (reply.status === 401) location.reload(); // leads to the login
  if (!reply.ok) throw new Error(reply.statusText);
  return reply.json();
}

$("earlier").onclick = async ({ currentTarget: button }) => {
  button.disabled = true;
  log.ariaBusy = "true"; // a screen reader need not read old messages out
  try {
    const { messages, more } = await load(`before=${first}`);
    const height = log.scrollHeight - log.scrollTop;
    for (const message of messages.reverse()) {
      insert(message, list.firstElementChild);
      first = message.id;
    }
    button.hidden = !more;
    log.scrollTop = log.scrollHeight - height;
  } catch {
    // The button stays: one more click is the retry.
  }
  log.ariaBusy = "false";
  button.disabled = false;
};

// The page follows the conversation, unless somebody reads further up.
function atEnd() {
  return log.scrollHeight - log.scrollTop - log.clientHeight < 80;
}

function scrollOn(follow) {
  if (!follow) {
    $("newer").hidden = false;
    return;
  }
  trim();
  log.scrollTop = log.scrollHeight;
}

// trim keeps a page that is open for weeks from growing for ever.
function trim() {
  if (list.childElementCount <= mostShown) return;
  while (list.childElementCount > mostShown * 0.8) list.firstElementChild.remove();
  first = Number(list.querySelector("[data-id]")?.dataset.id ?? upTo + 1);
  $("earlier").hidden = first <= 1;
}

// The keyboard of a phone takes half of the page, and must not take the newest messages.
let following = true;
log.onscroll = () => {
  following = atEnd();
  if (following) $("newer").hidden = true;
};
new ResizeObserver(() => following && (log.scrollTop = log.scrollHeight)).observe(log);
$("newer").onclick = () => {
  log.scrollTop = log.scrollHeight;
  log.focus();
};

// notice says in the conversation who comes and goes.
function notice(text) {
  const follow = atEnd();
  const item = document.createElement("li");
  item.className = "notice";
  item.textContent = text;
  list.append(item);
  if (follow) scrollOn(true);
}

const title = document.title;
let unread = 0;
function countUnread(more) {
  unread = more ? unread + more : 0;
  document.title = unread ? `(${unread}) ${title}` : title;
}
document.addEventListener("visibilitychange", () => document.hidden || countUnread(0));

const states = { connecting: "Connecting", live: "Live", waiting: "Reconnecting" };
function showState(name, text = states[name]) {
  const state = $("state");
  state.hidden = false;
  state.dataset.state = name;
  if (state.lastElementChild.textContent !== text) state.lastElementChild.textContent = text;
}

// A message of one's own is seen at once, wherever the page stands.
function added() {
  $("empty").hidden = true;
  scrollOn(true);
}

const here = people({ me, url: `${base}/people`, notice, hue, initial });
const sending = outbox({ form: $("composer"), list: $("outbox"), problem: $("problem"), add, added });

list.querySelectorAll("[data-id]").forEach((item) => {
  showTime(item);
  group(item);
});
log.scrollTop = log.scrollHeight;

showState("connecting");
live({
  url: new URL(`/realtime/events?channel=${encodeURIComponent(`room:${room}`)}`, location.href),
  cursor,
  events: {
    ready() {
      showState("live");
      if (!cursor || beyond.size > 0) catchUp();
      here.connected();
      sending.flush();
    },
    gap: catchUp,
    publication: add,
    join: here.join,
    leave: here.leave,
    disconnect({ code }) {
      if (code === 4501) location.reload(); // signed out, perhaps in another browser: leads to the login, or back
    },
  },
  lost() {
    showState("waiting");
    here.lost();
  },
  // An EventSource does not tell why it was refused. The app does.
  async refused() {
    const options = { headers: { Accept: "application/json" }, signal: AbortSignal.timeout(10_000) };
    const reply = await fetch(`${base}/people`, options).catch(() => null);
    if (reply?.status === 401) location.reload(); // leads to the login
    if (reply?.status === 404) showState("ended", "Disconnected: no such room");
    return reply?.status !== 404;
  },
});
