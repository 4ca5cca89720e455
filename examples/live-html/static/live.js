// An element that comes takes the place of the one with its id.
function listen() {
  const live = new EventSource(document.body.dataset.stream);
  live.addEventListener("publication", ({ data }) => {
    const fragment = document.createElement("template");
    fragment.innerHTML = data;
    for (const element of [...fragment.content.children]) document.getElementById(element.id)?.replaceWith(element);
  });
  live.addEventListener("gap", () => location.reload());
  // A proxy's error page makes browsers give up. What the page has had already does it no harm a second time.
  live.onerror = () => live.readyState === EventSource.CLOSED && setTimeout(listen, 2000 + 2000 * Math.random());
}
listen();
