// realtime.js keeps a page listening to a fanfare node by EventSource, and knows nothing of chats. The browser opens a broken
// stream again by itself, and says where it stood, so it gets what it missed. Left to do is what the browser leaves undone.

const grace = 10_000; // how late a ping may be
const refusedDelay = 3_000;

// live listens until the page is left. cursor says where to begin: what was published after it arrives first of all.
//
//   events        a function for each type of event, which gets its data
//   lost()        the stream broke; "ready" says that it is back
//   refused()     it got an answer that is no stream: resolves to whether to try again
export function live({ url, cursor, events, lost, refused }) {
  let source, timer, heard, ended;
  let silence = Infinity; // until the server says how often it pings
  url.searchParams.set("ping", "true");

  function open() {
    if (ended) return;
    source?.close();
    if (cursor) url.searchParams.set("cursor", cursor);
    const mine = (source = new EventSource(url));
    mine.addEventListener("ready", ({ data }) => {
      const { ping } = JSON.parse(data);
      if (ping) silence = ping * 1000 + grace;
    });
    for (const type of ["ping", ...Object.keys(events)]) {
      mine.addEventListener(type, (event) => {
        hear();
        cursor = event.lastEventId;
        events[type]?.(JSON.parse(event.data));
      });
    }
    mine.onerror = async () => {
      lost();
      if (mine.readyState !== EventSource.CLOSED) return; // the browser tries again
      if (!(await refused())) ended = true;
      else if (mine === source) openIn(refusedDelay * (0.5 + Math.random()));
    };
    hear();
  }

  function openIn(delay) {
    clearTimeout(timer);
    timer = setTimeout(open, delay);
  }

  // On a dead network not even pings come, and the browser does not notice.
  function hear() {
    heard = Date.now();
    if (silence < Infinity) openIn(silence + grace * Math.random());
  }

  // A phone that wakes up, or finds another network, need not wait for its turn, and cannot trust the old connection.
  addEventListener("online", open);
  addEventListener("pageshow", (event) => event.persisted && open());
  document.addEventListener("visibilitychange", () => {
    const trusted = source.readyState === EventSource.OPEN && Date.now() - heard < silence;
    if (!document.hidden && !trusted) open();
  });
  open();
}
