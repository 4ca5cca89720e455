// outbox.js sends the form without leaving the page. Every message gets a key before it is sent, so it can be sent again
// when no answer came: the server stores it once. What could not be sent yet stays visible, and goes out in order when
// the connection is back.

export function outbox({ form, list, problem, add, added }) {
  const text = form.elements.text;
  const key = form.elements.key;
  let waiting = []; // {key, text, item}
  let busy = false;
  let timer = null;

  // Not crypto.randomUUID: browsers have it only on https and localhost.
  const newKey = () => crypto.getRandomValues(new Uint32Array(4)).join("-");

  form.onsubmit = (event) => {
    event.preventDefault();
    const entry = { key: newKey(), text: text.value.trim(), item: document.createElement("li") };
    if (!entry.text) return;
    entry.item.className = "message own pending";
    const bubble = document.createElement("div");
    bubble.className = "bubble";
    const words = document.createElement("p");
    words.className = "text";
    words.textContent = entry.text;
    bubble.append(words);
    entry.item.append(bubble);
    list.append(entry.item);
    waiting.push(entry);
    problem.hidden = true;
    text.value = "";
    fit();
    text.focus();
    added();
    flush();
  };

  // flush sends what waits, one after the other, so that it arrives in the order in which it was written.
  async function flush() {
    if (busy) return;
    busy = true;
    clearTimeout(timer);
    while (waiting.length > 0 && (await send(waiting[0])));
    busy = false;
    if (waiting.length > 0) timer = setTimeout(flush, 2000 + 2000 * Math.random());
  }

  // send reports whether the next one may go.
  async function send(entry) {
    let reply, body;
    try {
      reply = await fetch(form.action, {
        method: "POST",
        headers: { Accept: "application/json" },
        body: new URLSearchParams({ key: entry.key, text: entry.text }),
        signal: AbortSignal.timeout(10_000),
      });
      body = await reply.json();
    } catch {
      reply = null;
    }
    if (reply?.ok) {
      settle(entry.key); // also if somebody else is logged in by now
      add(body);
      return true;
    }
    if (reply?.status === 401) location.reload(); // leads to the login
    if (!reply || reply.status >= 500 || reply.status === 429 || reply.status === 401) {
      entry.item.classList.add("stuck");
      return false;
    }
    // It will never be accepted: its author gets it back.
    settle(entry.key);
    problem.textContent = body.error;
    problem.hidden = false;
    text.value ||= entry.text;
    fit();
    return true;
  }

  // settle removes what has arrived. A live message may tell so before the reply does.
  function settle(arrived) {
    waiting.find((entry) => entry.key === arrived)?.item.remove();
    waiting = waiting.filter((entry) => entry.key !== arrived);
  }

  text.onkeydown = (event) => {
    // Enter sends, but not while it picks a word from an input method, and not on a phone, where there is no other way
    // to begin a new line.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || matchMedia("(pointer: coarse)").matches) return;
    event.preventDefault();
    form.requestSubmit();
  };

  function fit() {
    text.style.height = "auto";
    text.style.height = `${Math.min(text.scrollHeight, 160)}px`;
  }
  text.oninput = fit;
  // Browsers restore what was typed before a reload.
  fit();
  // The key that came with the page belongs to a form that was sent without this script.
  key.value = newKey();

  addEventListener("beforeunload", (event) => waiting.length > 0 && event.preventDefault());
  return { flush, settle };
}
