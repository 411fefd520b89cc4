// The chat page. What a model says is only ever set as text, never as HTML.
const play = document.querySelector(".play");
const by = (id) => document.getElementById(id);
const conversation = by("conversation");
let turns = [];
let running = null;
let language = "curl";

const csrf = JSON.parse(document.body.getAttribute("hx-headers"))["x-csrftoken"];

function messages() {
  const system = by("system").value.trim();
  return [...(system ? [{ role: "system", content: system }] : []), ...turns];
}

function body() {
  const limit = Number.parseInt(by("max-tokens").value, 10);
  return {
    model: by("model").value,
    messages: messages(),
    temperature: Number(by("temperature").value),
    ...(Number.isFinite(limit) ? { max_tokens: limit } : {}),
  };
}

function add(kind, text) {
  by("start")?.remove();
  const turn = document.createElement("div");
  turn.className = `turn ${kind}`;
  if (kind === "user") {
    turn.textContent = text;
  } else {
    const who = document.createElement("p");
    who.className = "who";
    who.textContent = by("model").value;
    const said = document.createElement("div");
    said.className = "text";
    turn.append(who, said);
  }
  conversation.append(turn);
  turn.scrollIntoView({ block: "nearest" });
  return turn;
}

function busy(on) {
  by("send").hidden = on;
  by("stop").hidden = !on;
  by("again").hidden = on || !turns.some((turn) => turn.role === "assistant");
}

async function ask() {
  const turn = add("assistant", "");
  turn.classList.add(by("model").selectedOptions[0]?.dataset.path ?? "hosted");
  const said = turn.querySelector(".text");
  const started = performance.now();
  const waiting = setInterval(() => {
    if (!said.dataset.begun) said.textContent = `Waiting for the first token, ${((performance.now() - started) / 1000).toFixed(1)} s`;
  }, 100);
  const begun = { at: 0, text: "", receipt: null };
  running = new AbortController();
  busy(true);
  try {
    const response = await fetch(play.dataset.answerUrl, {
      method: "POST",
      headers: { "content-type": "application/json", "x-csrftoken": csrf },
      body: JSON.stringify(body()),
      signal: running.signal,
    });
    if (!response.ok) throw new Error(await reason(response));
    for await (const event of events(response.body)) {
      if (event.data === "[DONE]") continue;
      const part = JSON.parse(event.data);
      if (event.name === "receipt") { begun.receipt = part; continue; }
      if (part.error) throw new Error(part.error.message);
      const text = part.choices?.[0]?.delta?.content;
      if (text) {
        begun.at ||= performance.now();
        said.dataset.begun = "yes";
        begun.text += text;
        said.textContent = begun.text;
        if (conversation.lastElementChild === turn) turn.scrollIntoView({ block: "nearest" });
      }
    }
    if (!begun.text) said.textContent = "(no text)";
    turns.push({ role: "assistant", content: begun.text });
  } catch (error) {
    said.dataset.begun = "yes";
    if (error.name === "AbortError") {
      said.textContent = begun.text || "Stopped.";
      if (begun.text) turns.push({ role: "assistant", content: begun.text });
      note(turn, "Stopped. What was said until then is billed.");
    } else {
      said.textContent = begun.text;
      const problem = document.createElement("p");
      problem.className = "bad";
      problem.setAttribute("role", "alert");
      problem.textContent = error.message;
      turn.append(problem);
    }
  } finally {
    clearInterval(waiting);
    running = null;
    busy(false);
    showCode();
  }
  if (begun.receipt) receipt(turn, begun.receipt, started, begun.at);
}

async function reason(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return `The portal answered with status ${response.status}. Reload the page and try again.`;
  }
}

async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const event = { name: "message", data: "" };
      for (const line of block.split("\n")) {
        if (line.startsWith("event: ")) event.name = line.slice(7);
        if (line.startsWith("data: ")) event.data += line.slice(6);
      }
      if (event.data) yield event;
    }
  }
}

function receipt(turn, paid, started, first) {
  const seconds = (performance.now() - first) / 1000;
  const line = document.createElement("p");
  line.className = "receipt";
  line.dataset.receipt = "";
  line.dataset.costUsd = paid.cost_usd;
  const input = paid.tokens_in + paid.tokens_in_cached;
  const cached = paid.tokens_in_cached ? ` (${paid.tokens_in_cached} cached)` : "";
  const speed = first && paid.tokens_out > 1 && seconds > 0 ? `${((paid.tokens_out - 1) / seconds).toFixed(0)} tokens/s` : "";
  const cost = paid.path === "serverless" ? "$0 for tokens, billed per second awake" : dollars(paid.cost_usd);
  for (const [text, title] of [
    [`${input} tokens in${cached}, ${paid.tokens_out} out`, paid.measured ? "measured by the engine" : "estimated"],
    [first ? `first token ${((first - started) / 1000).toFixed(2)} s` : "", ""],
    [speed, ""],
    [cost, `exactly $${paid.cost_usd}`],
  ]) {
    if (!text) continue;
    const part = document.createElement("span");
    part.textContent = text;
    part.title = title;
    line.append(part);
  }
  turn.append(line);
  turn.scrollIntoView({ block: "nearest" });
}

function note(turn, text) {
  const line = document.createElement("p");
  line.className = "receipt";
  line.textContent = text;
  turn.append(line);
}

function dollars(exact) {
  const value = Number(exact);
  if (value === 0) return "$0.00";
  return value >= 1 ? `$${value.toFixed(2)}` : `$${value.toFixed(Math.max(2, 2 - Math.floor(Math.log10(value))))}`;
}

function showCode() {
  const url = play.dataset.baseUrl;
  const asked = { ...body(), messages: messages().length ? messages() : [{ role: "user", content: "Hello" }] };
  const json = JSON.stringify(asked, null, 2);
  const indented = json.replace(/\n/g, "\n    ");
  const python = indented.replace(/: true/g, ": True").replace(/: false/g, ": False").replace(/: null/g, ": None");
  by("code-text").textContent = {
    curl: `curl ${url}/chat/completions \\\n  -H "Authorization: Bearer $MODELPORT_API_KEY" \\\n  -H "Content-Type: application/json" \\\n  -d '${json.replaceAll("'", "'\\''")}'`,
    python: `import os\nfrom openai import OpenAI\n\nclient = OpenAI(base_url="${url}", api_key=os.environ["MODELPORT_API_KEY"])\nanswer = client.chat.completions.create(\n    **${python}\n)\nprint(answer.choices[0].message.content)`,
    javascript: `import OpenAI from "openai";\n\nconst client = new OpenAI({ baseURL: "${url}", apiKey: process.env.MODELPORT_API_KEY });\nconst answer = await client.chat.completions.create(${json});\nconsole.log(answer.choices[0].message.content);`,
  }[language];
}

by("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = by("message").value.trim();
  if (!text || running) return;
  by("message").value = "";
  turns.push({ role: "user", content: text });
  add("user", text);
  ask();
});
by("message").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    by("composer").requestSubmit();
  }
});
by("stop").addEventListener("click", () => running?.abort());
by("again").addEventListener("click", () => {
  while (turns.at(-1)?.role === "assistant") turns.pop();
  if (turns.length) ask();
});
by("clear").addEventListener("click", () => {
  running?.abort();
  turns = [];
  conversation.replaceChildren();
  busy(false);
  showCode();
  by("message").focus();
});
conversation.addEventListener("click", (event) => {
  const example = event.target.closest("[data-example]");
  if (example) {
    by("message").value = example.dataset.example;
    by("composer").requestSubmit();
  }
});
by("temperature").addEventListener("input", () => { by("temperature-value").textContent = by("temperature").value; });
document.querySelector("[role=tablist]").addEventListener("click", (event) => {
  const tab = event.target.closest("[data-language]");
  if (!tab) return;
  language = tab.dataset.language;
  for (const other of document.querySelectorAll("[data-language]")) other.setAttribute("aria-selected", String(other === tab));
  showCode();
});
play.addEventListener("input", showCode);
showCode();
