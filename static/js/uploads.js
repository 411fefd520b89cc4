// The upload page: files go to the portal in chunks by the tus 1.0 protocol, one file after the other. What is kept
// here is only where an upload goes on; how far it is, the portal says.
const TUS = "1.0.0";
const CHUNK = 16 * 1024 * 1024;
const PATIENCE_S = [1, 2, 4, 8, 15, 30];
const RATE_OVER_MS = 5000;

const place = document.getElementById("uploader");
const token = JSON.parse(document.body.getAttribute("hx-headers"))["x-csrftoken"];
const nameField = document.getElementById("weights-name");
const choose = document.getElementById("choose");
const drop = document.getElementById("drop");
const list = document.getElementById("transfers");
const total = document.getElementById("total");
const pauseAll = document.getElementById("pause");
const transfers = [];
let paused = false;
let running = false;

class Transfer {
  constructor(file) {
    this.file = file;
    this.offset = 0;
    this.sent = 0;
    this.state = "waiting";
    this.row = rowFor(file);
    this.key = ["modelport-upload", place.dataset.team, nameField.value, file.name, file.size, file.lastModified].join(":");
    this.say("waiting");
  }

  // The words beside the name, and the bar.
  say(words, isBad = false) {
    const said = this.row.querySelector(".said");
    said.textContent = words;
    said.classList.toggle("bad", isBad);
    this.row.dataset.state = this.state;
    this.row.querySelector("progress").value = this.offset + this.sent;
  }

  // Until all of it is there, or somebody pauses it, or the portal refuses it.
  async send() {
    this.state = "sending";
    let failures = 0;
    for (;;) {
      if (paused) { this.state = "paused"; this.say(`paused at ${bytes(this.offset)} of ${bytes(this.file.size)}`); return; }
      try {
        if (!this.url) await this.begin();
        if (this.offset >= this.file.size) { this.finish(); return; }
        await this.chunk();
        failures = 0;
      } catch (problem) {
        this.sent = 0;
        if (paused) continue;
        if (problem.isFinal) { this.state = "failed"; this.say(problem.message, true); speak(`${this.file.name}: ${problem.message}`); return; }
        const wait = PATIENCE_S[Math.min(failures, PATIENCE_S.length - 1)];
        failures += 1;
        this.say(`${problem.message} Trying again in ${wait} s.`, true);
        if (failures === 1) speak(`${this.file.name}: ${problem.message} It is tried again.`);
        await until(wait);
        await this.locate();
      }
    }
  }

  // The upload that this file already has, or a new one.
  async begin() {
    const known = localStorage.getItem(this.key);
    if (known) {
      this.url = known;
      if (await this.locate()) return;
    }
    const said = { weights: nameField.value, filename: this.file.name };
    const metadata = Object.entries(said).map(([key, value]) => `${key} ${base64(new TextEncoder().encode(value))}`).join(",");
    const answer = await request("POST", place.dataset.url, { "Upload-Length": String(this.file.size), "Upload-Metadata": metadata });
    if (answer.status !== 201) throw trouble(answer);
    this.url = answer.getResponseHeader("Location");
    this.offset = 0;
    localStorage.setItem(this.key, this.url);
    adopt(answer.getResponseHeader("Modelport-Draft"));
  }

  // Ask how far it is. An upload that the portal no longer knows is begun anew.
  async locate() {
    if (!this.url) return false;
    let answer;
    try { answer = await request("HEAD", this.url, {}); } catch { return true; }
    if (answer.status === 200) { this.offset = Number(answer.getResponseHeader("Upload-Offset")); return true; }
    if (answer.status === 404 || answer.status === 410) { localStorage.removeItem(this.key); this.url = null; this.offset = 0; return false; }
    return true;
  }

  async chunk() {
    const part = this.file.slice(this.offset, this.offset + CHUNK);
    const headers = { "Content-Type": "application/offset+octet-stream", "Upload-Offset": String(this.offset) };
    if (window.crypto?.subtle) {
      let content;
      try { content = await part.arrayBuffer(); } catch { throw final("The file can't be read. Was it moved or changed? Choose it again."); }
      headers["Upload-Checksum"] = `sha256 ${base64(new Uint8Array(await crypto.subtle.digest("SHA-256", content)))}`;
    }
    const answer = await request("PATCH", this.url, headers, part, this);
    this.sent = 0;
    if (answer.status === 409) { await this.locate(); return; }
    if (answer.status === 404 || answer.status === 410) { localStorage.removeItem(this.key); this.url = null; throw final(detail(answer)); }
    if (answer.status !== 204) throw trouble(answer);
    this.offset = Number(answer.getResponseHeader("Upload-Offset"));
  }

  finish() {
    this.state = "complete";
    this.say(`${bytes(this.file.size)}, all here`);
    speak(`${this.file.name} is here.`);
    localStorage.removeItem(this.key);
  }
}

// --- the queue -----------------------------------------------------------------------------------------------------
function add(files) {
  if (!files.length) return;
  if (!nameField.value) nameField.value = suggested(files[0].name);
  if (nameField.checkValidity && !nameField.checkValidity()) {
    complain("The name may have a-z, 0-9, '.' and '-' only. Change it, then choose the files again.");
    nameField.focus();
    return;
  }
  complain("");
  nameField.readOnly = true;
  for (const file of files) {
    const known = transfers.find((other) => other.file.name === file.name);
    if (known && ["sending", "waiting"].includes(known.state)) continue;
    if (known) transfers.splice(transfers.indexOf(known), 1);
    transfers.push(new Transfer(file));
  }
  speak(`${files.length === 1 ? "1 file" : `${files.length} files`} chosen.`);
  run();
}

async function run() {
  if (running) return;
  running = true;
  const clock = setInterval(showTotal, 500);
  for (let next; (next = transfers.find((transfer) => transfer.state === "waiting")) && !paused;) {
    await next.send();
  }
  clearInterval(clock);
  running = false;
  showTotal();
  settle();
}

pauseAll?.addEventListener("click", () => {
  paused = !paused;
  pauseAll.textContent = paused ? "Resume" : "Pause";
  speak(paused ? "Paused." : "Going on.");
  if (paused) { current?.abort(); return; }
  for (const transfer of transfers) if (["paused", "failed"].includes(transfer.state)) transfer.state = "waiting";
  run();
});

// Once all is here the card can be sent.
function settle() {
  const left = [...list.children].filter((row) => !["complete", "refused"].includes(row.dataset.state)).length;
  const whole = left === 0 && [...list.children].some((row) => row.dataset.state === "complete");
  if (transfers.some((transfer) => transfer.state === "failed")) { pauseAll.textContent = "Try again"; paused = true; }
  const verify = document.getElementById("verify");
  if (verify) {
    verify.disabled = !whole;
    document.getElementById("verify-why").hidden = whole;
  } else if (whole && place.dataset.draft) {
    location.assign(`${place.dataset.page}/${place.dataset.draft}`);
  }
}

// From now on a reload comes back to this draft.
function adopt(draft) {
  if (!draft || place.dataset.draft) return;
  place.dataset.draft = draft;
  history.replaceState(null, "", `${place.dataset.page}/${draft}`);
}

// --- what is shown -------------------------------------------------------------------------------------------------
const samples = [];

function showTotal() {
  const size = transfers.reduce((sum, transfer) => sum + transfer.file.size, 0);
  const done = transfers.reduce((sum, transfer) => sum + transfer.offset + transfer.sent, 0);
  samples.push([performance.now(), done]);
  while (samples.length > 2 && samples[0][0] < performance.now() - RATE_OVER_MS) samples.shift();
  const [[before, had]] = samples;
  const rate = Math.max(0, (done - had) / Math.max(1, performance.now() - before) * 1000);
  const words = [`${bytes(done)} of ${bytes(size)}`];
  if (!paused && rate > 0 && done < size) words.push(`${bytes(rate)}/s`, `${duration((size - done) / rate)} left`);
  if (paused) words.push("paused");
  total.hidden = transfers.length === 0;
  total.querySelector(".said").textContent = words.join(", ");
  Object.assign(total.querySelector("progress"), { max: size || 1, value: done });
  pauseAll.hidden = transfers.every((transfer) => transfer.state === "complete");
  const active = transfers.find((transfer) => transfer.state === "sending");
  if (active && !active.row.querySelector(".said").classList.contains("bad")) active.say(`${bytes(active.offset + active.sent)} of ${bytes(active.file.size)}`);
  tellTenths(done, size);
}

let tenth = 0;
function tellTenths(done, size) {
  const now = size ? Math.floor(10 * done / size) : 0;
  if (now > tenth && now < 10) speak(`${now * 10} percent.`);
  tenth = now;
}

function rowFor(file) {
  const known = [...list.children].find((row) => row.dataset.name === file.name);
  const row = known ?? document.createElement("li");
  row.dataset.name = file.name;
  const top = document.createElement("div");
  top.className = "between";
  const title = document.createElement("b");
  title.textContent = file.name;
  const said = document.createElement("span");
  said.className = "muted said";
  top.append(title, said);
  const bar = Object.assign(document.createElement("progress"), { max: file.size || 1, value: 0 });
  bar.setAttribute("aria-label", file.name);
  row.replaceChildren(top, bar);
  if (!known) list.append(row);
  return row;
}

function complain(words) {
  const field = document.getElementById("upload-error");
  field.textContent = words;
  field.hidden = !words;
}

function speak(words) { document.getElementById("spoken").textContent = words; }

// As the portal writes sizes elsewhere.
function bytes(count) {
  const unit = ["bytes", "KB", "MB", "GB", "TB"];
  const power = Math.min(unit.length - 1, Math.floor(Math.log2(Math.max(1, count)) / 10));
  return `${(count / 1024 ** power).toFixed(power ? 1 : 0)} ${unit[power]}`;
}

function duration(seconds) {
  if (seconds < 60) return `${Math.ceil(seconds)} s`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

function suggested(name) {
  return name.toLowerCase().replace(/\.[a-z0-9]+$/, "").replace(/[^a-z0-9.-]+/g, "-").replace(/^[^a-z0-9]+/, "").slice(0, 59);
}

// --- the wire ------------------------------------------------------------------------------------------------------
let current = null;

// fetch() does not tell how much has been sent; XMLHttpRequest does.
function request(method, url, headers, body = null, transfer = null) {
  return new Promise((resolve, reject) => {
    const wire = new XMLHttpRequest();
    current = wire;
    wire.open(method, url);
    for (const [name, value] of Object.entries({ "Tus-Resumable": TUS, "X-CSRFToken": token, ...headers })) wire.setRequestHeader(name, value);
    if (transfer) wire.upload.onprogress = (event) => { transfer.sent = event.loaded; };
    wire.onload = () => resolve(wire);
    wire.onerror = () => reject(new Error("The portal can't be reached."));
    wire.onabort = () => reject(new Error("Paused."));
    wire.ontimeout = wire.onerror;
    wire.send(body);
  });
}

// What an answer means for the person: something to wait for, or something to do.
function trouble(answer) {
  switch (answer.status) {
    case 401: return final("You are signed out. Sign in again in another tab, then press Try again.");
    case 403: return final("You may not upload here, or your session is another one now. Reload the page.");
    case 423: return new Error("The portal is still writing the last part.");
    case 460: return new Error("A part was damaged on the way.");
    default: return answer.status >= 500 && answer.status !== 507 ? new Error("The portal has a problem.") : final(detail(answer));
  }
}

function detail(answer) {
  try { return JSON.parse(answer.responseText).detail; } catch { return `The portal answered with status ${answer.status}.`; }
}

function final(words) { return Object.assign(new Error(words), { isFinal: true }); }

function until(seconds) { return new Promise((resolve) => { setTimeout(resolve, seconds * 1000); }); }

function base64(content) { return btoa(String.fromCharCode(...content)); }

// --- files come in -------------------------------------------------------------------------------------------------
if (place) {
  choose.addEventListener("change", () => { add([...choose.files]); choose.value = ""; });
  for (const kind of ["dragover", "dragenter"]) drop.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    add([...event.dataTransfer.files]);
  });
}
