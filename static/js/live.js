// Keeps a page up to date: over server-sent events where they come, else by asking for the page's parts.
// A part is an element with an id and a digest of what it shows (data-seen); what is the same is left alone.
const root = document.querySelector("[data-live]");
const ASK_EVERY_MS = 3000, TRY_AGAIN_MS = 30000, HIDDEN_FOR_MS = 30000, MOST_LINES = 3000;
const UNITS = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
let source = null, asking = null, isOver = false, hiding = null;

function lasting(seconds) {
  let left = Math.max(0, Math.floor(seconds));
  const parts = [];
  for (const [name, size] of UNITS) {
    const count = Math.floor(left / size);
    left -= count * size;
    if (count || (name === "s" && !parts.length)) parts.push(`${count} ${name}`);
  }
  return parts.slice(0, 2).join(" ");
}

function tick() {
  for (const one of root.querySelectorAll("[data-since]")) {
    const seconds = (Date.now() - Date.parse(one.dataset.since)) / 1000;
    if (one.tagName === "PROGRESS") { if (one.hasAttribute("max")) one.value = Math.min(seconds, one.max); }
    else { const text = lasting(seconds); if (one.textContent !== text) one.textContent = text; }
  }
}

function isBeingRead(part) {
  const chosen = window.getSelection();
  return chosen && !chosen.isCollapsed && part.contains(chosen.anchorNode);
}

function put(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  for (const fresh of [...template.content.children]) {
    const old = document.getElementById(fresh.id);
    if (!old || old.dataset.seen === fresh.dataset.seen || isBeingRead(old)) continue;
    const open = [...old.querySelectorAll("details[open][data-key]")].map((one) => one.dataset.key);
    const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
    const scrolled = [...old.querySelectorAll(".scroll")].map((one) => one.scrollLeft);
    for (const one of fresh.querySelectorAll("details[data-key]")) one.open = open.includes(one.dataset.key);
    old.replaceWith(fresh);
    fresh.querySelectorAll(".scroll").forEach((one, n) => { one.scrollLeft = scrolled[n] || 0; });
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  }
  tick();
}

function addToLog(more) {
  const log = document.getElementById("log");
  if (!log || !log.dataset.more) return;
  if (more.replica !== log.dataset.replica) {
    if (log.childElementCount) log.insertAdjacentHTML("beforeend", '<span class="turn">another engine\n</span>');
    log.dataset.replica = more.replica;
  }
  log.dataset.ends = more.ends;
  if (!more.html) return;
  log.insertAdjacentHTML("beforeend", more.html);
  document.getElementById("log-empty")?.remove();
  while (log.childElementCount > MOST_LINES && !isBeingRead(log)) log.firstElementChild.remove();
}

async function ask() {
  const parts = await fetch(location.href, { headers: { "HX-Request": "true" } });
  if (parts.redirected || !parts.ok) return;
  put(await parts.text());
  const log = document.getElementById("log");
  if (log?.dataset.more) {
    const more = await fetch(`${log.dataset.more}&ends=${log.dataset.ends}&of=${log.dataset.replica}`);
    if (more.ok && !more.redirected) addToLog(await more.json());
  }
}

function address() {
  const url = new URL(root.dataset.live, location.href);
  const seen = [...root.querySelectorAll("[data-seen]")].map((one) => `${one.id.replace("part-", "")}:${one.dataset.seen}`);
  url.searchParams.set("seen", seen.join(","));
  const log = document.getElementById("log");
  if (log) { url.searchParams.set("ends", log.dataset.ends); url.searchParams.set("of", log.dataset.replica); }
  return url;
}

function say(text) {
  for (const one of document.querySelectorAll("[data-live-state]")) { one.hidden = !text; one.textContent = text; }
}

function listen() {
  if (isOver || source) return;
  source = new EventSource(address());
  source.addEventListener("open", () => { clearInterval(asking); asking = null; say("· live"); });
  source.addEventListener("parts", (event) => JSON.parse(event.data).forEach(put));
  source.addEventListener("log", (event) => addToLog(JSON.parse(event.data)));
  source.addEventListener("over", () => { isOver = true; stop(); say(""); });
  source.addEventListener("error", () => {
    const refused = source?.readyState === EventSource.CLOSED;
    stop();
    // An end in good order is followed by another stream; a refusal by asking, and by another try later.
    if (refused) { say("· every few seconds"); asking ??= setInterval(ask, ASK_EVERY_MS); }
    if (!isOver && !document.hidden) setTimeout(listen, refused ? TRY_AGAIN_MS : 500);
  });
}

function stop() {
  source?.close();
  source = null;
}

if (root) {
  setInterval(tick, 1000);
  tick();
  listen();
  document.addEventListener("visibilitychange", () => {
    clearTimeout(hiding);
    if (document.hidden) hiding = setTimeout(() => { stop(); clearInterval(asking); asking = null; }, HIDDEN_FOR_MS);
    else listen();
  });
  // Leaving the page ends its stream at once; coming back to it from the history begins another.
  window.addEventListener("pagehide", stop);
  window.addEventListener("pageshow", (event) => { if (event.persisted) listen(); });
}
