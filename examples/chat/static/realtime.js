// realtime.js keeps a page connected to a fanfare node by the uni_websocket transport: one request out, then only
// messages in. It needs nothing but a browser, and knows nothing of chats. An app that wants more than to listen
// (subscribe and publish from the page, other transports) takes the published SDK instead:
//
//   const client = new Centrifuge("wss://example.com/realtime/websocket");
//   client.newSubscription("news").on("publication", ({ data }) => show(data)).subscribe();

const firstDelay = 500; // milliseconds
const longestDelay = 20_000;
const connectTimeout = 10_000;
const settled = 10_000; // a connection that lived this long was a good one

// live connects and stays connected until it is told not to. channel is what the server subscribes the page to,
// position ({epoch, offset}) says after which publication the page begins: what came later arrives first of all.
//
//   on.state(name)        "connecting", "live" or "waiting" for the next attempt
//   on.connected(whole)   whole is false if the server cannot say what the page missed: load it from elsewhere
//   on.publication(data)  in order, but perhaps one that the page has from elsewhere
//   on.join(info), on.leave(info)
//   on.end(code, reason)  it will not come back by itself
export function live({ url, data, channel, position, on }) {
  let socket, retryTimer, watchdog, goodbye;
  let patience = connectTimeout;
  let heard = Date.now();
  let attempts = 0;
  let liveSince = 0;

  function open() {
    drop();
    on.state("connecting");
    goodbye = null;
    patience = connectTimeout;
    const ws = new WebSocket(url);
    socket = ws;
    hear();
    ws.onopen = () => {
      const sub = position ? { recover: true, epoch: position.epoch, offset: position.offset } : {};
      ws.send(JSON.stringify({ name: "chat", data, subs: { [channel]: sub } }));
    };
    ws.onmessage = (event) => {
      hear();
      for (const line of event.data.split("\n")) {
        // What an earlier line ended does not go on.
        if (line && ws === socket) receive(JSON.parse(line));
      }
    };
    ws.onclose = (event) => {
      const { code, reason } = goodbye ?? event;
      lost(isFinal(code), code, reason);
    };
  }

  // drop forgets the socket without waiting for it: on a dead network the closing handshake takes minutes.
  function drop() {
    clearTimeout(retryTimer);
    clearTimeout(watchdog);
    retryTimer = null;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
    socket = null;
  }

  // hear is called whenever something arrives. The server pings, so silence means that the connection is dead, even if
  // the browser does not know it yet.
  function hear() {
    heard = Date.now();
    clearTimeout(watchdog);
    watchdog = setTimeout(() => lost(false, 0, "no ping"), patience);
  }

  function receive(push) {
    if (push.connect) connected(push.connect);
    else if (push.disconnect) goodbye = push.disconnect;
    else if (push.channel !== channel) return; // a ping, or a message to the page as a whole
    else if (push.pub) publication(push.pub);
    else if (push.join) on.join(push.join.info);
    else if (push.leave) on.leave(push.leave.info);
    else if (push.unsubscribe) lost(push.unsubscribe.code < 2500, push.unsubscribe.code, push.unsubscribe.reason);
  }

  function connected({ ping, subs }) {
    // Ten seconds more than promised: a busy server or network is not a dead one.
    patience = ping ? ping * 1000 + 10_000 : 2 ** 31 - 1;
    hear();
    const sub = subs?.[channel] ?? {};
    const whole = Boolean(position && sub.recovered);
    liveSince = Date.now();
    position = { epoch: sub.epoch ?? "", offset: sub.offset ?? 0 };
    on.state("live");
    for (const pub of sub.publications ?? []) publication(pub);
    on.connected(whole);
  }

  function publication(pub) {
    if (pub.offset) position.offset = pub.offset;
    on.publication(pub.data);
  }

  function lost(final, code, reason) {
    drop();
    if (final) return on.end(code, reason);
    attempts = liveSince && Date.now() - liveSince > settled ? 0 : attempts + 1;
    liveSince = 0;
    // Longer each time, and never the same for two pages: a server that has just started must not get all of them at
    // once.
    const ceiling = Math.min(longestDelay, firstDelay * 2 ** attempts);
    on.state("waiting");
    retryTimer = setTimeout(open, ceiling * (0.3 + 0.7 * Math.random()));
  }

  // A phone that wakes up, or finds another network, need not wait for its turn, and cannot trust the old connection.
  function wake() {
    attempts = 0;
    if (retryTimer || (socket && Date.now() - heard > patience)) open();
  }
  addEventListener("online", () => {
    attempts = 0;
    if (retryTimer || socket) open();
  });
  addEventListener("pageshow", wake);
  document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && wake());

  open();
}

// isFinal says whether a close code means "do not come back" (the same rule as in the published SDKs).
function isFinal(code) {
  return (code >= 3500 && code < 4000) || (code >= 4500 && code < 5000);
}
