// The chat page: columns of conversations over one composer. What a model says is only ever set as text (see Markdown).
const by = (id) => document.getElementById(id);
const page = JSON.parse(by("page").textContent);
const csrf = JSON.parse(document.body.getAttribute("hx-headers"))["x-csrftoken"];
const store = new Store(`${page.team}:${page.user}`);
const fields = new Fields(by("drawer"), page.urls.check, csrf);
const MOST_COLUMNS = 4, MOST_PICTURES = 8, LONGEST_SIDE = 1568, LARGE_PICTURE = 700_000, TRY_AGAIN_MS = [300, 1000, 2000, 4000];
const NARROW = window.matchMedia("(max-width: 1100px)");
const EXAMPLES = {
  schema: { type: "object", properties: { city: { type: "string" }, population: { type: "integer" } }, required: ["city", "population"], additionalProperties: false },
  tools: [{ type: "function", function: { name: "get_weather", description: "The weather in a city now", parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] } } }],
};

// What this tab remembers. `choices` are the models by name, as the portal last told of them.
let state = { columns: [], choices: {}, system: "", raw: {}, message: "", prompt: null, drawer: null, tongue: "curl" };
let pictures = [];
// The answers that come just now: node id -> what is known of it in this tab alone.
const running = new Map();
const shown = new Map();

// --- Small things
function make(name, className = "", text = "") {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

function from(id) { return by(id).content.firstElementChild.cloneNode(true); }

function say(text, isBad = false) {
  by("composer-said").textContent = text;
  by("composer-said").classList.toggle("bad", isBad);
}

function dollars(exact) {
  const value = Number(exact);
  if (value === 0) return "$0.00";
  return value >= 1 ? `$${value.toFixed(2)}` : `$${value.toFixed(Math.max(2, 2 - Math.floor(Math.log10(value))))}`;
}

function seconds(value) { return value < 10 ? `${value.toFixed(value < 1 ? 2 : 1)} s` : `${Math.round(value)} s`; }

function choice(model) {
  return state.choices[model] ?? { name: model, label: model, path: model.includes("/") ? "serverless" : "hosted", by: "", price: "", why_not: "", state: "", sees_images: false, refuses: [], href: "" };
}

function learn(found) { for (const one of found) state.choices[one.name] = one; }

let saving = null;
function keep() {
  clearTimeout(saving);
  saving = setTimeout(keepNow, 300);
}

function keepNow() {
  clearTimeout(saving);
  state.system = by("system").value;
  state.raw = fields.raw();
  state.message = by("message").value;
  const names = new Set(state.columns.flatMap((column) => [column.model, ...Object.values(column.nodes).map((node) => node.model)]));
  state.choices = Object.fromEntries(Object.entries(state.choices).filter(([name]) => names.has(name)));
  if (!store.write(state)) say("This tab can't keep all of it: after a reload the pictures are missing.");
}

// --- Columns
function columnOf(id) { return state.columns.find((column) => column.id === id); }

function first() { return columnOf(document.activeElement?.closest?.(".column")?.dataset.column) ?? state.columns[0]; }

function drawColumns() {
  const root = by("columns");
  root.replaceChildren(...state.columns.map(drawColumn));
  root.dataset.many = state.columns.length;
  by("add").disabled = state.columns.length >= MOST_COLUMNS;
  by("add").title = by("add").disabled ? "Four models side by side are the most" : "";
  drawAll();
}

function drawColumn(column) {
  const made = from("column-template");
  made.dataset.column = column.id;
  made.setAttribute("aria-label", choice(column.model).label);
  made.querySelector(".picker").addEventListener("click", () => pick(column));
  const remove = made.querySelector(".remove");
  remove.hidden = state.columns.length < 2;
  remove.setAttribute("aria-label", `Remove the column of ${choice(column.model).label}`);
  remove.addEventListener("click", () => removeColumn(column));
  return made;
}

function elementOf(column) { return by("columns").querySelector(`[data-column="${column.id}"]`); }

function drawHead(column) {
  const root = elementOf(column), model = choice(column.model), about = root.querySelector(".about");
  root.className = `column ${model.path}`;
  root.querySelector(".turns").setAttribute("aria-label", `Conversation with ${model.label}`);
  root.querySelector(".picker b").textContent = model.label;
  root.querySelector(".picker").title = model.name;
  about.replaceChildren();
  if (model.by) about.append(make("span", "", model.by));
  if (model.price) about.append(make("span", "", model.price));
  if (model.state && model.state !== "ready") about.append(make("span", `pill ${model.state}`, model.state));
  if (model.state === "asleep") {
    const start = model.start_s ? `the first call wakes it: about ${seconds(model.start_s)}` : "the first call wakes it";
    const cost = make("span", "", model.start_usd ? `${start}, ${dollars(model.start_usd)}` : start);
    if (model.start_usd) cost.title = `exactly $${model.start_usd}, at the list price, for a start as long as the last one`;
    about.append(cost);
  }
  if (model.why_not) about.append(make("span", "bad", model.why_not));
}

function drawAll() {
  for (const column of state.columns) { drawHead(column); drawTurns(column); }
  fields.refuse(state.columns.map((column) => choice(column.model)));
  drawPictureButton();
  busy();
}

function drawTurns(column) {
  const turns = elementOf(column).querySelector(".turns"), path = Tree.path(column);
  const atEnd = turns.scrollHeight - turns.scrollTop - turns.clientHeight < 60;
  const made = path.map((node) => (node.role === "assistant" ? drawAnswer(column, node) : drawAsked(column, node)));
  if (!made.length) made.push(column === state.columns[0] ? drawStart() : make("p", "start short muted", `${choice(column.model).label} answers the same here.`));
  turns.replaceChildren(...made);
  if (atEnd) turns.scrollTop = turns.scrollHeight;
}

function drawStart() {
  const start = from("empty-template");
  for (const one of start.querySelectorAll("[data-ask]")) {
    one.disabled = !page.mayCall;
    one.addEventListener("click", () => { by("message").value = one.dataset.ask; ask(); });
  }
  return start;
}

function drawAsked(column, node) {
  const made = from("user-template"), bubble = made.querySelector(".bubble"), acts = made.querySelector(".acts");
  made.dataset.node = node.id;
  if (node.role === "tools") {
    made.classList.add("results");
    for (const one of node.results) bubble.append(make("p", "mono", `${one.name} gave: ${one.content}`));
    acts.querySelector(".edit").remove();
  } else {
    bubble.textContent = node.text;
    made.querySelector(".pictures").append(...(node.images ?? []).map(picture));
    acts.querySelector(".edit").addEventListener("click", () => edit(column, node));
    acts.querySelector(".edit").disabled = !page.mayCall;
  }
  drawBranches(acts.querySelector(".branches"), column, node);
  return made;
}

function picture(url) {
  const made = make("img");
  made.src = url;
  made.alt = "An attached picture";
  return made;
}

function drawBranches(root, column, node) {
  const all = Tree.siblings(column, node);
  if (all.length < 2) return;
  const place = all.findIndex((one) => one.id === node.id);
  for (const [step, sign, name] of [[-1, "‹", "The branch before"], [1, "›", "The next branch"]]) {
    const button = make("button", "icon", sign);
    button.type = "button";
    button.setAttribute("aria-label", name);
    button.disabled = !all[place + step];
    button.addEventListener("click", () => go(column, node, step));
    root.append(button);
    if (step < 0) root.append(make("span", "", `${place + 1} / ${all.length}`));
  }
}

function go(column, node, step) {
  if (Tree.turn(column, node, step)) { drawTurns(column); busy(); keep(); }
}

// --- Answers
function drawAnswer(column, node) {
  const made = from("answer-template");
  made.dataset.node = node.id;
  made.querySelector(".again").addEventListener("click", () => again(column, node));
  made.querySelector(".again").disabled = !page.mayCall;
  made.querySelector(".branch").addEventListener("click", () => { column.leaf = node.id; drawTurns(column); keep(); by("message").focus(); });
  drawBranches(made.querySelector(".branches"), column, node);
  shown.set(node.id, made);
  fill(made, column, node);
  return made;
}

// Everything of an answer as it stands. Called for each that changes, once a frame at most.
function fill(made, column, node) {
  const { said } = node, isRunning = said.state === "running", mine = running.get(node.id);
  const path = said.receipt?.path ?? choice(node.model).path;
  made.className = `turn assistant ${path}`;
  made.setAttribute("aria-busy", String(isRunning));
  made.querySelector(".who").textContent = choice(node.model).label;
  const text = made.querySelector(".text");
  if (said.text) Markdown.show(text, said.text);
  else text.replaceChildren(...(isRunning && !said.reasoning && !said.wake.length ? [make("p", "muted", waiting(mine))] : []));
  fillReasoning(made, said);
  fillWaking(made.querySelector(".wake"), node, mine);
  fillCalls(made.querySelector(".calls"), column, node);
  fillTrouble(made.querySelector(".trouble"), column, node);
  fillReceipt(made.querySelector(".receipt"), node);
  made.querySelector(".acts").hidden = isRunning;
  made.querySelector("[data-copy]").dataset.copy = said.text;
  made.querySelector("[data-copy]").hidden = !said.text;
  made.querySelector(".again").hidden = said.problem !== null;
  made.querySelector(".branch").hidden = column.leaf === node.id || said.problem !== null;
}

function waiting(mine) { return mine ? `Waiting for the first token, ${((performance.now() - mine.began) / 1000).toFixed(1)} s` : "Waiting for the first token"; }

function fillReasoning(made, said) {
  const box = made.querySelector(".reasoning");
  box.hidden = !said.reasoning;
  if (!said.reasoning) return;
  box.querySelector("summary").textContent = said.text || said.state !== "running" ? "Reasoning" : "Reasoning, still going on";
  Markdown.show(box.lastElementChild, said.reasoning);
}

// A start that was, or is, waited for: its phases, how long each took, how long all of it takes, and what it costs.
function fillWaking(box, node, mine) {
  const { said } = node, last = said.wake.at(-1);
  box.hidden = !last;
  if (!last) return;
  const model = choice(node.model), isOn = said.state === "running" && !said.text && !said.reasoning && !said.calls.length;
  const since = isOn && mine?.wokenAt ? (performance.now() - mine.wokenAt) / 1000 : 0;
  const waited = last.waited_s + Math.min(since, 3), expected = last.expected_s ?? model.start_s;
  const cost = model.start_usd ? ` The start costs about ${dollars(model.start_usd)}.` : model.path === "hosted" ? " The start is not yours to pay." : "";
  const line = box.querySelector("p"), bar = box.querySelector("progress"), list = box.querySelector("ol");
  const last_s = expected ? Math.max(1, Math.round(expected)) : 0;
  const beside = !last_s ? "" : waited > last_s + 1 ? `, longer than the ${last_s} s of its last start` : ` of about ${last_s} s`;
  if (isOn) line.textContent = `It is waking: ${Math.round(waited)} s${beside}.${cost}`;
  else line.textContent = `It was asleep and woke within ${Math.max(1, last.waited_s)} s.${cost}`;
  line.title = model.start_usd ? `exactly $${model.start_usd}, at the list price, for a start as long as the last one` : "";
  bar.hidden = !isOn || !expected;
  if (expected) { bar.max = expected; bar.value = Math.min(waited, expected); }
  list.hidden = !isOn;
  list.replaceChildren(...said.wake.map((phase) => make("li", phase === last ? "now" : "done", `${phase.phase} ${Math.max(0, Math.round((phase === last ? waited : phase.waited_s) - phase.since_s))} s`)));
}

function fillCalls(box, column, node) {
  const { said } = node;
  if (!said.calls.length) { box.replaceChildren(); return; }
  if (box.contains(document.activeElement)) return;
  const isLast = column.leaf === node.id && said.state === "done";
  const inputs = [];
  const made = said.calls.map((call) => {
    const one = make("div", "call");
    one.append(make("p", "", `calls ${call.name || "a tool"}`));
    let shown = call.arguments;
    try { shown = JSON.stringify(JSON.parse(call.arguments), null, 2); } catch { /* not whole yet */ }
    one.append(make("pre", "", shown));
    if (isLast && page.mayCall) {
      const label = make("label", "", `What ${call.name} gives`), input = make("textarea");
      input.rows = 2;
      input.placeholder = '{"celsius": 21}';
      label.append(input);
      one.append(label);
      inputs.push([call, input]);
    }
    return one;
  });
  if (inputs.length) {
    const button = make("button", "btn small", inputs.length > 1 ? "Give the results" : "Give the result");
    button.type = "button";
    button.addEventListener("click", () => {
      const results = inputs.map(([call, input]) => ({ id: call.id, name: call.name, content: input.value }));
      const asked = Tree.add(column, { parent: node.id, role: "tools", results });
      answer(column, asked.id);
    });
    made.push(button);
  }
  box.replaceChildren(...made);
}

function fillTrouble(box, column, node) {
  const { problem } = node.said;
  box.hidden = !problem;
  if (!problem || box.dataset.of === JSON.stringify(problem)) return;
  box.dataset.of = JSON.stringify(problem);
  box.replaceChildren(make("b", "", problem.title), make("p", "", problem.message), make("p", "muted", problem.todo));
  const row = make("div", "row"), retry = make("button", "btn small", "Try again");
  retry.type = "button";
  retry.addEventListener("click", () => again(column, node));
  if (page.mayCall) row.append(retry);
  if (problem.href) {
    const link = make("a", "btn small", problem.label);
    link.href = problem.href;
    row.append(link);
  }
  box.append(row);
}

function fillReceipt(line, node) {
  const { said } = node, paid = said.receipt;
  line.hidden = said.state === "running" || (!paid && said.state !== "stopped");
  if (line.hidden) return;
  line.replaceChildren();
  const part = (text, title = "") => { if (text) { const one = make("span", "", text); one.title = title; line.append(one); } };
  if (said.state === "stopped") part(paid ? "Stopped: what came is billed" : "Stopped before its first token: nothing is billed");
  if (!paid) return;
  const model = choice(node.model), classes = Object.entries(paid.tokens).map(([name, count]) => `${name} ${count}`).join("\n");
  line.dataset.receipt = "";
  line.dataset.costUsd = paid.cost_usd;
  part(paid.first_s === null ? "" : `first token ${seconds(paid.first_s)}`, `${paid.first_s} s from the request to the first token; ${paid.total_s} s in all`);
  part(paid.tokens_per_s ? `${Math.round(paid.tokens_per_s)} tokens/s` : "", `${paid.tokens_per_s} tokens a second after the first`);
  part(`${paid.tokens_in} tokens in, ${paid.tokens_out} out`, `${classes}\n${paid.measured ? "as the model's side counted them" : "estimated: no count came"}`);
  if (paid.path === "serverless") {
    const awake = model.awake_usd ? Number(model.awake_usd) * paid.total_s : null;
    part(awake === null ? "$0.00 for tokens" : `$0.00 for tokens, about ${dollars(awake)} awake`, `exactly $${paid.cost_usd} for its tokens; the deployment is billed by the second awake, whatever it answers`);
  } else {
    part(dollars(paid.cost_usd), `exactly $${paid.cost_usd}`);
  }
  if (said.finish === "length") part("cut off at max tokens", "Raise max tokens for a longer answer");
  if (said.fits) part(said.fits.is_so ? "fits the schema" : said.fits.is_so === null ? "schema not checked" : "does not fit the schema", said.fits.why);
}

// --- Asking
function ask() {
  const text = by("message").value.trim();
  if (!text && !pictures.length) { by("message").focus(); return; }
  if (!page.mayCall || running.size) return;
  const given = checked();
  if (!given) return;
  const group = Tree.id(), images = pictures;
  const blind = state.columns.filter((column) => images.length && !choice(column.model).sees_images).map((column) => choice(column.model).label);
  const asked = state.columns.map((column) => [column, Tree.add(column, { parent: column.leaf, role: "user", text, images, group })]);
  if (!within(asked)) { for (const [column, node] of asked) { column.leaf = node.parent; delete column.nodes[node.id]; } return; }
  by("message").value = "";
  pictures = [];
  drawPictures();
  say(blind.length ? `${blind.join(", ")} can't see pictures: it got the text alone.` : "");
  for (const [column, node] of asked) answer(column, node.id, given);
}

// The parameters, or nothing and a word about what is wrong with them.
function checked() {
  try { return fields.parameters(); } catch (error) {
    if (!error.input) throw error;
    openDrawer(true);
    say(error.message, true);
    error.input.focus();
    return null;
  }
}

function within(asked) {
  const size = Math.max(...asked.map(([column, node]) => JSON.stringify(Tree.messages(column, node.id, { system: "", seesImages: true })).length));
  if (size < page.mostBytes * 0.95) return true;
  say(`The conversation and its pictures are ${(size / 1048576).toFixed(1)} MB; ${(page.mostBytes / 1048576).toFixed(0)} MB are the most. Take a picture away, or begin a new conversation.`, true);
  return false;
}

function bodyOf(column, id, parameters) {
  const model = choice(column.model);
  const taken = Object.fromEntries(Object.entries(parameters).filter(([name]) => !model.refuses.includes(name)));
  return { model: column.model, messages: Tree.messages(column, id, { system: by("system").value, seesImages: model.sees_images }), ...taken };
}

function answer(column, parent, parameters = checked()) {
  if (!parameters) return;
  const body = JSON.stringify(bodyOf(column, parent, parameters));
  const node = Tree.add(column, { parent, role: "assistant", model: column.model, send: Tree.id(), said: Wire.blank() });
  drawTurns(column);
  elementOf(column).querySelector(".turns").scrollTop = 1e9;
  keepNow();
  follow(column, node, () => fetch(page.urls.answer, { method: "POST", headers: { "content-type": "application/json", "x-csrftoken": csrf, "idempotency-key": node.send, "x-team": page.team }, body }));
}

// Reads an answer to its end, over as many connections as that takes. Each tells it from its beginning.
async function follow(column, node, begin) {
  running.set(node.id, { began: performance.now(), wokenAt: 0 });
  busy();
  let open = begin;
  try {
    for (let tries = 0; node.said.state === "running"; tries += 1) {
      try {
        const response = await open();
        if (!response.ok) { fail(node, await Wire.problem(response)); break; }
        let isFirst = true;
        for await (const news of Wire.events(response.body)) {
          if (isFirst) { node.said = Wire.blank(); isFirst = false; tries = 0; }
          Wire.add(node.said, news);
          if (news.wake?.length) woken(column, node);
          paint(column, node);
        }
      } catch (error) {
        if (!(error instanceof TypeError) && error.name !== "AbortError") throw error;
      }
      if (node.said.state !== "running") break;
      if (tries >= TRY_AGAIN_MS.length) { fail(node, Wire.unreached()); break; }
      await new Promise((done) => { setTimeout(done, TRY_AGAIN_MS[tries]); });
      open = () => fetch(`${page.urls.answers}${node.send}`);
    }
  } finally {
    running.delete(node.id);
    paint(column, node);
    busy();
    keepNow();
  }
  spend(node);
}

function woken(column, node) {
  running.get(node.id).wokenAt = performance.now();
  if (state.choices[node.model]) state.choices[node.model].state = node.said.wake.at(-1).phase;
  drawHead(column);
}

function fail(node, problem) {
  // What came before stays.
  node.said = { ...node.said, state: "failed", problem };
}

// Once a frame: an answer that comes fast is drawn no more often than it can be seen.
const wanted = new Map();
function paint(column, node) {
  if (!wanted.size) requestAnimationFrame(paintAll);
  wanted.set(node.id, [column, node]);
}

function paintAll() {
  const all = [...wanted.values()];
  wanted.clear();
  for (const [column, node] of all) {
    const made = shown.get(node.id);
    if (!made?.isConnected) continue;
    const turns = made.closest(".turns"), atEnd = turns.scrollHeight - turns.scrollTop - turns.clientHeight < 60;
    fill(made, column, node);
    if (atEnd) turns.scrollTop = turns.scrollHeight;
  }
}

function spend(node) {
  const { receipt, state: outcome, problem, wake } = node.said;
  if (wake.length) refresh();
  by("spoken").textContent = problem ? problem.title : outcome === "done" ? `${choice(node.model).label} has answered: ${receipt?.tokens_out ?? 0} tokens` : "Stopped";
  const budget = receipt?.budget;
  if (!budget) return;
  by("money-text").textContent = budget.limit ? `${budget.spent} of ${budget.limit}` : `${budget.spent} this month, no budget`;
  by("money").title = `exactly $${budget.exact}, this month`;
  if (by("money-bar")) by("money-bar").value = budget.share;
  by("money").classList.toggle("spent", budget.is_spent);
}

function stop() {
  for (const id of running.keys()) {
    const node = state.columns.map((column) => column.nodes[id]).find(Boolean);
    if (node) fetch(`${page.urls.answers}${node.send}/stop`, { method: "POST", headers: { "x-csrftoken": csrf } }).catch(() => say("The portal can't be reached: the answer goes on.", true));
  }
}

function again(column, node) {
  if (!page.mayCall || running.has(node.id)) return;
  answer(column, node.parent);
}

function lastAnswers() {
  return state.columns.map((column) => [column, Tree.path(column).findLast((node) => node.role === "assistant")]).filter(([, node]) => node);
}

// What was asked in several columns at once is asked anew in all of them.
function edit(column, node) {
  const root = shownAsked(column, node);
  if (!root || running.size) return;
  const form = from("edit-template"), input = form.querySelector("textarea"), bubble = root.querySelector(".bubble");
  input.value = node.text;
  input.rows = Math.min(12, node.text.split("\n").length + 1);
  bubble.replaceChildren(form);
  root.classList.add("is-edited");
  root.querySelector(".acts").hidden = true;
  input.focus();
  const leave = () => drawTurns(column);
  form.querySelector(".cancel").addEventListener("click", leave);
  form.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { event.stopPropagation(); leave(); }
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); form.requestSubmit(); }
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = input.value.trim(), given = text ? checked() : null;
    if (!given) return;
    const group = Tree.id();
    for (const other of state.columns) {
      const same = Tree.path(other).find((one) => one.role === "user" && one.group === node.group);
      if (!same) continue;
      const asked = Tree.add(other, { parent: same.parent, role: "user", text, images: same.images, group });
      answer(other, asked.id, given);
    }
  });
}

function shownAsked(column, node) { return elementOf(column).querySelector(`[data-node="${node.id}"]`); }

function busy() {
  by("stop").hidden = !running.size;
  by("send").hidden = Boolean(running.size);
  by("new").disabled = Boolean(running.size);
}

// --- Columns: more, fewer, another model
function addColumn() {
  if (state.columns.length >= MOST_COLUMNS) return;
  pick(null);
}

function removeColumn(column) {
  if (state.columns.length < 2) return;
  if (Tree.path(column).some((node) => running.has(node.id))) { say("It is being answered: stop it first.", true); return; }
  state.columns = state.columns.filter((one) => one !== column);
  drawColumns();
  keep();
}

function fresh() {
  if (running.size) return;
  state.columns = state.columns.map((column) => Tree.column(column.model));
  pictures = [];
  drawPictures();
  drawColumns();
  say("");
  keep();
  by("message").focus();
}

// --- Choosing a model: a search that asks the portal
let picking = { column: null, at: 0, found: [], asked: 0 };

function pick(column) {
  picking = { column, at: 0, found: [], asked: 0 };
  by("picker-search").value = "";
  by("picker").showModal();
  search();
}

async function search() {
  const mine = picking.asked += 1, query = by("picker-search").value;
  try {
    const response = await fetch(`${page.urls.models}?q=${encodeURIComponent(query)}`);
    const { choices } = await response.json();
    if (mine !== picking.asked) return;
    picking.found = choices;
    picking.at = Math.max(0, choices.findIndex((one) => one.name === picking.column?.model));
    drawFound();
    by("picker-said").textContent = choices.length ? "" : "No model has that in its name.";
  } catch { by("picker-said").textContent = "The portal can't be reached."; }
}

function drawFound() {
  const items = picking.found.map((one, place) => {
    const item = make("li", one.why_not ? "off" : one.path);
    item.id = `found-${place}`;
    item.setAttribute("role", "option");
    item.setAttribute("aria-selected", String(place === picking.at));
    if (one.why_not) item.setAttribute("aria-disabled", "true");
    const about = [one.by, one.why_not || one.price].filter(Boolean).join(" · ");
    item.append(make("b", "", one.label), make("span", "", about));
    if (one.state && one.state !== "ready") item.append(make("span", `pill ${one.state}`, one.state));
    if (one.sees_images && one.path !== "alias") item.append(make("span", "tag", "sees pictures"));
    item.addEventListener("click", () => choose(place));
    return item;
  });
  by("picker-list").replaceChildren(...items);
  by("picker-search").setAttribute("aria-activedescendant", items.length ? `found-${picking.at}` : "");
  items[picking.at]?.scrollIntoView({ block: "nearest" });
}

function choose(place) {
  const one = picking.found[place];
  if (!one) return;
  if (one.why_not) { by("picker-said").textContent = `${one.label}: ${one.why_not}`; return; }
  learn([one]);
  by("picker").close();
  if (picking.column) picking.column.model = one.name;
  else state.columns.push(state.columns.length ? Tree.copy(state.columns[0], one.name) : Tree.column(one.name));
  drawColumns();
  keep();
  by("message").focus();
}

by("picker-search").addEventListener("input", () => { clearTimeout(picking.timer); picking.timer = setTimeout(search, 120); });
by("picker-search").addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step) {
    event.preventDefault();
    picking.at = Math.min(Math.max(picking.at + step, 0), picking.found.length - 1);
    drawFound();
  }
  if (event.key === "Enter") { event.preventDefault(); choose(picking.at); }
});

// --- Pictures: made small before they are taken
async function attach(files) {
  for (const file of files) {
    if (!file.type.startsWith("image/")) { say(`${file.name} is no picture.`, true); continue; }
    if (pictures.length >= MOST_PICTURES) { say(`${MOST_PICTURES} pictures a message are the most.`, true); break; }
    try { pictures.push(await small(file)); } catch { say(`${file.name} can't be read as a picture.`, true); }
  }
  drawPictures();
}

async function small(file) {
  const bitmap = await createImageBitmap(file), scale = Math.min(1, LONGEST_SIDE / Math.max(bitmap.width, bitmap.height));
  if (scale === 1 && file.size <= LARGE_PICTURE && /^image\/(png|jpeg|webp|gif)$/.test(file.type)) {
    return new Promise((done, failed) => {
      const reader = new FileReader();
      reader.onload = () => done(reader.result);
      reader.onerror = failed;
      reader.readAsDataURL(file);
    });
  }
  const canvas = make("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const pen = canvas.getContext("2d");
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL("image/jpeg", 0.85);
}

function drawPictures() {
  const root = by("pictures");
  root.hidden = !pictures.length;
  root.replaceChildren(...pictures.map((url, place) => {
    const one = make("figure"), remove = make("button", "icon", "×");
    remove.type = "button";
    remove.setAttribute("aria-label", `Take picture ${place + 1} away`);
    remove.addEventListener("click", () => { pictures.splice(place, 1); drawPictures(); });
    one.append(picture(url), make("figcaption", "", `${Math.round((url.length * 3) / 4096)} kB`), remove);
    return one;
  }));
}

function drawPictureButton() {
  const canSee = state.columns.some((column) => choice(column.model).sees_images);
  by("picture").disabled = !canSee || !page.mayCall;
  by("picture").title = canSee ? "Or paste it, or drop it here" : "Not possible: no model here takes pictures";
}

function pasted(event) {
  const files = [...(event.clipboardData ?? event.dataTransfer).files];
  if (!files.length) return;
  event.preventDefault();
  if (by("picture").disabled) { say("No model here takes pictures.", true); return; }
  attach(files);
}

// --- The drawer, code, saving
function openDrawer(isOpen) {
  state.drawer = isOpen;
  by("play").classList.toggle("no-drawer", !isOpen);
  by("drawer-toggle").setAttribute("aria-expanded", String(isOpen));
  keep();
}

function showCode() {
  const given = checked();
  if (!given) return;
  by("code-column").replaceChildren(...state.columns.map((column, place) => new Option(choice(column.model).label, place)));
  by("code-which").hidden = state.columns.length < 2;
  by("code-column").value = Math.max(0, state.columns.indexOf(first()));
  drawCode();
  by("code-dialog").showModal();
}

function drawCode() {
  const column = state.columns[Number(by("code-column").value)], text = by("message").value.trim();
  const path = Tree.path(column), asked = path.findLastIndex((node) => node.role !== "assistant");
  const body = bodyOf(column, text ? column.leaf : path[asked]?.id, checked() ?? {});
  if (text || asked < 0) body.messages.push({ role: "user", content: text || "Hello" });
  const code = Code.of(state.tongue, page.baseUrl, body);
  by("code-text").textContent = Code.shortened(code);
  by("code-copy").dataset.copy = code;
  for (const tab of by("tongues").children) tab.setAttribute("aria-selected", String(tab.dataset.tongue === state.tongue));
}

function showSave() {
  if (by("save").disabled) return;
  by("save-said").textContent = "";
  by("save-which").hidden = !state.prompt;
  by("save-new").hidden = Boolean(state.prompt);
  if (state.prompt) { by("save-version").textContent = `Version ${state.prompt.number + 1} of ${state.prompt.name}`; by("save-form").elements.where.value = "version"; }
  by("save-dialog").showModal();
}

async function savePrompt(event) {
  event.preventDefault();
  const isVersion = state.prompt && by("save-form").elements.where.value === "version", given = checked();
  if (!given) { by("save-said").textContent = "Mend the parameters first."; return; }
  const lastAsked = Tree.path(state.columns[0]).findLast((node) => node.role === "user")?.text ?? "";
  const form = new URLSearchParams({
    name: by("save-name").value, system: by("system").value, message: by("message").value.trim() || lastAsked,
    parameters: JSON.stringify(given), tried_with: JSON.stringify(state.columns.map((column) => column.model)), note: by("save-note").value,
  });
  if (by("save-shared").checked) form.set("is_shared", "on");
  const url = isVersion ? `${page.urls.prompts}${state.prompt.id}/save` : page.urls.save;
  try {
    const response = await fetch(url, { method: "POST", headers: { "x-csrftoken": csrf }, body: form });
    const body = await response.json();
    if (!response.ok) { by("save-said").textContent = body.message; return; }
    state.prompt = { id: body.id, name: body.name, number: body.number };
    drawPrompt();
    by("save-dialog").close();
    say(`Saved: ${body.name}, version ${body.number}.`);
    keep();
  } catch { by("save-said").textContent = "The portal can't be reached. Nothing was saved."; }
}

function drawPrompt() {
  const line = by("prompt-name");
  line.hidden = !state.prompt;
  if (!state.prompt) return;
  const link = make("a", "link", state.prompt.name);
  link.href = `${page.urls.prompts}${state.prompt.id}/`;
  line.replaceChildren(link, " ", make("span", "tag", `version ${state.prompt.number}`));
}

// --- Keys
const KEYS = {
  "/": () => by("message").focus(),
  m: () => pick(first()),
  a: addColumn,
  r: () => { if (!running.size) for (const [column, node] of lastAnswers()) again(column, node); },
  e: () => { const column = first(), node = Tree.path(column).findLast((one) => one.role === "user"); if (node) edit(column, node); },
  "[": () => turnLast(-1),
  "]": () => turnLast(1),
  p: () => openDrawer(by("play").classList.contains("no-drawer")),
  c: showCode,
  s: showSave,
  n: fresh,
  "?": () => by("help-dialog").showModal(),
};

// The last turn that has branches.
function turnLast(step) {
  const column = first(), node = Tree.path(column).findLast((one) => Tree.siblings(column, one).length > 1);
  if (node) go(column, node, step);
}

document.addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]") || event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.closest("input, textarea, select, [contenteditable]");
  if (event.key === "Escape") {
    if (running.size) stop();
    else if (NARROW.matches && !by("play").classList.contains("no-drawer")) openDrawer(false);
    else if (typing) typing.blur();
    return;
  }
  const act = KEYS[event.key];
  if (!act || typing || !by("keys-on").checked) return;
  event.preventDefault();
  act();
});

// --- Wiring
by("composer").addEventListener("submit", (event) => { event.preventDefault(); ask(); });
by("message").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); ask(); }
});
by("message").addEventListener("paste", pasted);
by("composer").addEventListener("dragover", (event) => event.preventDefault());
by("composer").addEventListener("drop", pasted);
by("picture").addEventListener("click", () => by("picture-file").click());
by("picture-file").addEventListener("change", () => { attach([...by("picture-file").files]); by("picture-file").value = ""; });
by("stop").addEventListener("click", stop);
by("new").addEventListener("click", fresh);
by("add").addEventListener("click", addColumn);
by("code").addEventListener("click", showCode);
by("save").addEventListener("click", showSave);
by("help").addEventListener("click", () => by("help-dialog").showModal());
by("drawer-toggle").addEventListener("click", KEYS.p);
by("drawer-close").addEventListener("click", () => openDrawer(false));
by("save-form").addEventListener("submit", savePrompt);
by("save-which").addEventListener("change", () => { by("save-new").hidden = by("save-form").elements.where.value === "version"; });
by("code-column").addEventListener("change", drawCode);
by("drawer").addEventListener("input", (event) => {
  const name = event.target.dataset.param;
  if (name === "schema" || name === "tools") fields.tell(name);
  if (name === "format") fields.unfold();
  keep();
});
by("drawer").addEventListener("click", (event) => {
  const { format, example } = event.target.dataset;
  if (format) fields.format(format);
  if (example) { fields.input(example).value = JSON.stringify(EXAMPLES[example], null, 2); fields.tell(example); keep(); }
});
by("message").addEventListener("input", keep);
by("keys-on").addEventListener("change", () => localStorage.setItem("playground:keys", by("keys-on").checked ? "on" : "off"));
for (const dialog of document.querySelectorAll("dialog")) {
  dialog.addEventListener("click", (event) => { if (event.target === dialog || event.target.closest("[data-close]")) dialog.close(); });
}
window.addEventListener("pagehide", keepNow);
// The clocks of what is waited for.
setInterval(() => {
  for (const id of running.keys()) {
    for (const column of state.columns) {
      const node = column.nodes[id];
      if (node && !node.said.text && !node.said.reasoning && !node.said.calls.length) paint(column, node);
    }
  }
}, 100);

// --- The beginning: what this tab remembers, or what the address asks for
function begin() {
  for (const one of document.querySelectorAll("[data-js]")) one.hidden = false;
  for (const [tongue, name] of Object.entries(Code.tongues)) {
    const tab = make("button", "", name);
    tab.type = "button";
    tab.dataset.tongue = tongue;
    tab.setAttribute("role", "tab");
    tab.addEventListener("click", () => { state.tongue = tongue; drawCode(); keep(); });
    by("tongues").append(tab);
  }
  by("keys-on").checked = localStorage.getItem("playground:keys") !== "off";
  // Also on the way back from another page: what stood here stands here again.
  const isReload = performance.getEntriesByType("navigation")[0]?.type !== "navigate";
  const before = store.read(), asksAnew = (page.isAsked || page.prompt) && !isReload;
  if (before?.columns?.length) {
    state = { ...state, ...before };
    by("system").value = state.system;
    fields.put(state.raw);
    by("message").value = state.message;
  }
  learn(page.chosen);
  if (!state.columns.length || asksAnew) state.columns = page.chosen.map((one) => Tree.column(one.name));
  if (page.prompt && asksAnew) {
    by("system").value = page.prompt.system;
    by("message").value = page.prompt.message;
    fields.putParameters(page.prompt.parameters);
    state.prompt = { id: page.prompt.id, name: page.prompt.name, number: page.prompt.number };
  }
  fields.unfold();
  drawPrompt();
  openDrawer(NARROW.matches ? false : state.drawer ?? true);
  if (!state.columns.length) { by("columns").replaceChildren(nothing()); return; }
  drawColumns();
  goOn();
  refresh();
}

function nothing() {
  const made = make("div", "start");
  const link = make("a", "btn small", "Models");
  link.href = "/models/";
  made.append(make("h2", "", "Nothing can be called yet"), make("p", "", "No provider has a key here and no deployment runs. Deploy an open model, or ask an administrator to set a provider's key."), link);
  return made;
}

// What was being answered when the page was left goes on. One that never reached the portal says so.
function goOn() {
  for (const column of state.columns) {
    for (const node of Object.values(column.nodes)) {
      if (node.said?.state === "running") follow(column, node, () => fetch(`${page.urls.answers}${node.send}`));
    }
  }
}

// The models of these columns as they are now: what slept may be awake.
async function refresh() {
  const names = [...new Set(state.columns.map((column) => column.model))];
  try {
    const response = await fetch(`${page.urls.models}?${names.map((name) => `name=${encodeURIComponent(name)}`).join("&")}`);
    learn((await response.json()).choices);
    for (const column of state.columns) drawHead(column);
    fields.refuse(state.columns.map((column) => choice(column.model)));
    drawPictureButton();
  } catch { /* the next call says it */ }
}

begin();
