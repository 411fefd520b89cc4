// The drawer's fields: what is empty is not sent, so the model's own default holds. JSON is checked as it is typed.
class Fields {
  constructor(root, checkUrl, csrf) {
    this.root = root;
    this.checkUrl = checkUrl;
    this.csrf = csrf;
    this.checking = null;
    this.inputs = [...root.querySelectorAll("[data-param]")];
  }

  input(name) { return this.inputs.find((one) => one.dataset.param === name); }

  // The fields as they stand, for this tab's memory.
  raw() { return Object.fromEntries(this.inputs.map((one) => [one.dataset.param, one.value])); }

  put(raw) {
    for (const one of this.inputs) if (raw[one.dataset.param] !== undefined) one.value = raw[one.dataset.param];
    this.unfold();
  }

  // A saved prompt's parameters, by the names of chat/completions.
  putParameters(given) {
    const format = given.response_format ?? {};
    const text = (value) => (value === undefined ? "" : JSON.stringify(value, null, 2));
    const raw = Object.fromEntries(this.inputs.map((one) => [one.dataset.param, ""]));
    for (const name of Object.keys(raw)) if (["string", "number"].includes(typeof given[name])) raw[name] = String(given[name]);
    raw.stop = [given.stop ?? []].flat().join("\n");
    raw.format = format.type ?? "";
    raw.schema = text(format.json_schema?.schema);
    raw.schema_name = format.json_schema?.name ?? "";
    raw.tools = text(given.tools);
    this.put(raw);
  }

  // By the names of chat/completions. Throws an Error with `input` for what can't be sent.
  parameters() {
    const found = {};
    for (const name of ["temperature", "top_p", "presence_penalty", "frequency_penalty"]) this.number(found, name, Number.parseFloat);
    for (const name of ["max_tokens", "seed"]) this.number(found, name, (text) => Number.parseInt(text, 10));
    const stops = this.input("stop").value.split("\n").filter((line) => line !== "");
    if (stops.length) found.stop = stops.slice(0, 4);
    if (this.input("reasoning_effort").value) found.reasoning_effort = this.input("reasoning_effort").value;
    const format = this.input("format").value;
    if (format === "json_object") found.response_format = { type: format };
    if (format === "json_schema") {
      const schema = this.json("schema");
      if (schema === undefined) throw this.wrong("schema", "A JSON schema is asked for: write one, or choose text.");
      found.response_format = { type: format, json_schema: { name: this.input("schema_name").value.trim() || "answer", schema, strict: true } };
    }
    const tools = this.json("tools");
    if (tools !== undefined) {
      found.tools = tools;
      if (this.input("tool_choice").value) found.tool_choice = this.input("tool_choice").value;
    }
    return found;
  }

  number(found, name, read) {
    const input = this.input(name), text = input.value.trim();
    if (!text && !input.validity.badInput) return;
    const value = read(text);
    if (!input.checkValidity() || !Number.isFinite(value)) throw this.wrong(name, `${input.labels[0].textContent.trim()}: ${input.validationMessage || "not a number"}`);
    found[name] = value;
  }

  json(name) {
    const text = this.input(name).value.trim();
    if (!text) return undefined;
    const problem = this.look(name);
    if (problem) throw this.wrong(name, problem);
    return JSON.parse(text);
  }

  wrong(name, message) {
    const input = this.input(name);
    for (let fold = input.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
    return Object.assign(new Error(message), { input });
  }

  // What is wrong with a field of JSON as it stands, "" if nothing that can be seen from here.
  look(name) {
    const text = this.input(name).value.trim();
    let value;
    if (!text) return "";
    try { value = JSON.parse(text); } catch (error) { return `Not JSON: ${error.message}`; }
    return name === "tools" ? this.lookAtTools(value) : this.lookAtSchema(value);
  }

  lookAtSchema(value) {
    return value && typeof value === "object" && !Array.isArray(value) ? "" : "A schema is an object: {\"type\": \"object\", ...}";
  }

  lookAtTools(value) {
    if (!Array.isArray(value)) return "Tools are a list: [{\"type\": \"function\", ...}]";
    for (const [place, tool] of value.entries()) {
      const name = tool?.function?.name;
      if (tool?.type !== "function") return `Tool ${place + 1}: its type is "function".`;
      if (typeof name !== "string" || !/^[A-Za-z0-9_-]{1,64}$/.test(name)) return `Tool ${place + 1}: function.name is 1 to 64 letters, digits, _ or -.`;
      const parameters = tool.function.parameters ?? { type: "object" };
      if (this.lookAtSchema(parameters) || parameters.type !== "object") return `${name}: its parameters are a JSON schema of the type "object".`;
    }
    return "";
  }

  // Said under the field: at once what can be seen from here, a moment later what the portal says of the schema.
  tell(name) {
    const input = this.input(name), problem = this.look(name), text = input.value.trim();
    this.say(input, problem, text && !problem ? "checking" : "");
    clearTimeout(this.checking);
    if (!text || problem) return;
    this.checking = setTimeout(async () => {
      const value = JSON.parse(text);
      const schemas = name === "tools" ? value.map((tool) => tool.function.parameters ?? { type: "object" }) : [value];
      try {
        const response = await fetch(this.checkUrl, { method: "POST", headers: { "content-type": "application/json", "x-csrftoken": this.csrf }, body: JSON.stringify({ schemas }) });
        const { problems } = await response.json();
        if (input.value.trim() !== text) return;
        const first = problems.find(Boolean) ?? "";
        const names = name === "tools" ? value.map((tool) => tool.function.name).join(", ") : "a JSON schema";
        this.say(input, first, first ? "" : `Good: ${names}`);
      } catch { this.say(input, "", ""); }
    }, 500);
  }

  say(input, problem, good) {
    const line = document.getElementById(`${input.id}-said`);
    line.textContent = problem || good;
    line.classList.toggle("bad", Boolean(problem));
    if (problem) input.setAttribute("aria-invalid", "true");
    else input.removeAttribute("aria-invalid");
  }

  format(name) {
    const input = this.input(name);
    try { input.value = JSON.stringify(JSON.parse(input.value), null, 2); } catch { /* the line below says why */ }
    this.tell(name);
  }

  // Only what is chosen is shown.
  unfold() {
    this.root.querySelector("[data-for=json_schema]").hidden = this.input("format").value !== "json_schema";
  }

  // Which parameters these models don't take, said under each.
  refuse(choices) {
    for (const input of this.inputs) {
      const line = document.getElementById(`${input.id}-refused`);
      if (!line) continue;
      const by = choices.filter((one) => one.refuses?.includes(input.dataset.param)).map((one) => one.label);
      line.textContent = by.length ? `${by.join(", ")} does not take it: left out there` : "";
    }
  }
}
