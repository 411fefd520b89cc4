// What goes over the wire: the request of a column, the stream of its answer, and the same request as code.
const Wire = {
  // The stream's objects; comments are skipped.
  async *events(stream) {
    const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const whole = (rest + value).split("\n\n");
      rest = whole.pop();
      for (const event of whole) if (event.startsWith("data: ")) yield JSON.parse(event.slice(6));
    }
  },

  // What is new of an answer, added to what there was.
  add(said, news) {
    for (const [name, value] of Object.entries(news)) {
      if (name === "text" || name === "reasoning") said[name] += value;
      else said[name] = value;
    }
  },

  blank() {
    return { text: "", reasoning: "", calls: [], wake: [], finish: "", state: "running", problem: null, receipt: null, fits: null };
  },

  async problem(response) {
    const plain = { code: "", title: "The portal did not answer", message: `It answered with status ${response.status}.`, todo: "Load the page again.", href: "", label: "" };
    try {
      const body = await response.json();
      return body.problem ?? { ...plain, message: body.error?.message ?? body.message ?? plain.message };
    } catch { return plain; }
  },

  unreached() {
    return { code: "", title: "The portal can't be reached", message: "The connection broke off.", todo: "The answer goes on without this page: load it again to see it.", href: "", label: "" };
  },
};

// The same request in three tongues. The key is the reader's own, from the environment.
const Code = {
  tongues: { curl: "curl", python: "Python", javascript: "JavaScript" },

  of(tongue, url, body) {
    const json = JSON.stringify(body, null, 2);
    if (tongue === "curl") {
      return `curl ${url}/chat/completions \\\n  -H "Authorization: Bearer $MODELPORT_API_KEY" \\\n  -H "Content-Type: application/json" \\\n  -d '${json.replaceAll("'", "'\\''")}'`;
    }
    if (tongue === "python") {
      const given = Object.entries(body).map(([name, value]) => `    ${name}=${Code.python(value, 1)},`).join("\n");
      return `import os\n\nfrom openai import OpenAI\n\nclient = OpenAI(base_url="${url}", api_key=os.environ["MODELPORT_API_KEY"])\nanswer = client.chat.completions.create(\n${given}\n)\nprint(answer.choices[0].message.content)`;
    }
    return `import OpenAI from "openai";\n\nconst client = new OpenAI({ baseURL: "${url}", apiKey: process.env.MODELPORT_API_KEY });\nconst answer = await client.chat.completions.create(${json});\nconsole.log(answer.choices[0].message.content);`;
  },

  // A JSON value as Python writes it. Strings of JSON are strings of Python.
  python(value, depth) {
    const inner = "    ".repeat(depth + 1), outer = "    ".repeat(depth);
    if (value === null) return "None";
    if (value === true) return "True";
    if (value === false) return "False";
    if (typeof value !== "object") return JSON.stringify(value);
    const isList = Array.isArray(value);
    const parts = isList ? value.map((one) => Code.python(one, depth + 1)) : Object.entries(value).map(([name, one]) => `${JSON.stringify(name)}: ${Code.python(one, depth + 1)}`);
    if (!parts.length) return isList ? "[]" : "{}";
    return `${isList ? "[" : "{"}\n${parts.map((part) => inner + part).join(",\n")},\n${outer}${isList ? "]" : "}"}`;
  },

  // As it is shown: nobody reads a picture's letters.
  shortened(text) {
    return text.replace(/data:image\/[a-z+]+;base64,[A-Za-z0-9+/=]{80,}/g, (whole) => `${whole.slice(0, 60)}...(${Math.round(whole.length / 1024)} kB)`);
  },
};
