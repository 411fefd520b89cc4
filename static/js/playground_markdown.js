// Markdown as a model writes it, made into DOM nodes. Nothing it says is ever parsed as HTML: every text is set as text,
// every element is one of those named here, and a link leads to http, https or mailto or is no link. Pictures are not
// loaded: their address would tell somebody that, and what, was read.
const Markdown = (() => {
  const DEEPEST = 8, FARTHEST = 2000;
  const FENCE = /^ {0,3}(`{3,}|~{3,})([^`]*)$/, HEADING = /^ {0,3}(#{1,6})[ \t]+(.*)$/, RULE = /^ {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$/;
  const ITEM = /^( {0,9})([-*+]|\d{1,9}[.)])(?: +(.*)|)$/, QUOTE = /^ {0,3}> ?/, CELLS = /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;
  const ESCAPED = /[\\`*_{}[\]()#+\-.!|<>~]/, WORD = /[\p{L}\p{N}]/u;

  function element(name, className = "") {
    const made = document.createElement(name);
    if (className) made.className = className;
    return made;
  }

  // An address that may be gone to, or "".
  function safe(address) {
    try {
      const url = new URL(address.trim());
      return ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : "";
    } catch { return ""; }
  }

  // --- Blocks: text -> [{kind, source, ...}]. Linear in the text's length.
  function blocks(text) {
    const lines = text.replaceAll("\r\n", "\n").split("\n"), found = [];
    let at = 0;
    while (at < lines.length) {
      const line = lines[at];
      if (!line.trim()) { at += 1; continue; }
      const from = at, fence = FENCE.exec(line);
      let block;
      if (fence) {
        const end = new RegExp(`^ {0,3}${fence[1][0] === "~" ? "~" : "`"}{${fence[1].length},}\\s*$`);
        at += 1;
        while (at < lines.length && !end.test(lines[at])) at += 1;
        block = { kind: "code", language: fence[2].trim().split(/\s/)[0].slice(0, 30), lines: lines.slice(from + 1, at) };
        at += 1;
      } else if (HEADING.test(line)) {
        const [, marks, title] = HEADING.exec(line);
        block = { kind: "heading", level: marks.length, text: title.trim().replace(/ #+$/, "") };
        at += 1;
      } else if (RULE.test(line)) {
        block = { kind: "rule" };
        at += 1;
      } else if (QUOTE.test(line)) {
        while (at < lines.length && QUOTE.test(lines[at])) at += 1;
        block = { kind: "quote", lines: lines.slice(from, at).map((one) => one.replace(QUOTE, "")) };
      } else if (ITEM.test(line)) {
        at = endOfList(lines, at);
        block = { kind: "list", lines: lines.slice(from, at) };
      } else if (line.includes("|") && isRuler(lines[at + 1] ?? "")) {
        at += 2;
        while (at < lines.length && lines[at].includes("|") && lines[at].trim()) at += 1;
        block = { kind: "table", lines: lines.slice(from, at) };
      } else {
        at += 1;
        while (at < lines.length && lines[at].trim() && !begins(lines[at])) at += 1;
        block = { kind: "paragraph", text: lines.slice(from, at).join("\n") };
      }
      block.raw = lines.slice(from, at).join("\n");
      block.source = `${block.kind}\n${block.raw}`;
      found.push(block);
    }
    return found;
  }

  function isRuler(line) {
    return line.length < 2000 && line.includes("-") && CELLS.test(line);
  }

  function begins(line) {
    return FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line) || ITEM.test(line);
  }

  function endOfList(lines, at) {
    const fenced = { by: "" };
    for (at += 1; at < lines.length; at += 1) {
      const line = lines[at];
      const fence = /^\s*(`{3,}|~{3,})/.exec(line);
      if (fence) fenced.by = fenced.by ? "" : fence[1];
      if (fenced.by || !line.trim()) continue;
      if (!ITEM.test(line) && !/^ {2,}\S/.test(line) && !lines[at - 1].trim()) break;
      if (RULE.test(line) || HEADING.test(line) || (FENCE.test(line) && !/^ {2,}/.test(line))) break;
    }
    while (at > 0 && !lines[at - 1].trim()) at -= 1;
    return at;
  }

  function render(block, depth) {
    switch (block.kind) {
      case "code": return code(block);
      case "heading": {
        // The page has headings of its own above these.
        const made = element(`h${Math.min(6, block.level + 2)}`);
        inline(made, block.text);
        return made;
      }
      case "rule": return element("hr");
      case "quote": {
        const made = element("blockquote");
        fill(made, block.lines.join("\n"), depth + 1);
        return made;
      }
      case "list": return list(block.lines, depth);
      case "table": return table(block.lines);
      default: {
        const made = element("p");
        inline(made, block.text);
        return made;
      }
    }
  }

  function fill(parent, text, depth) {
    if (depth > DEEPEST) { parent.append(text); return; }
    for (const block of blocks(text)) parent.append(render(block, depth));
  }

  function code(block) {
    const box = element("div", "code"), pre = element("pre"), copy = element("button", "copy");
    pre.tabIndex = 0;
    pre.textContent = block.lines.join("\n");
    copy.type = "button";
    copy.dataset.copy = "";
    copy.textContent = "Copy";
    if (block.language) {
      const name = element("span", "language");
      name.textContent = block.language;
      box.append(name);
    }
    box.append(pre, copy);
    return box;
  }

  function list(lines, depth) {
    const first = ITEM.exec(lines[0]), isOrdered = /\d/.test(first[2]);
    const made = element(isOrdered ? "ol" : "ul"), start = Number.parseInt(first[2], 10);
    if (isOrdered && start !== 1) made.start = start;
    const edge = first[1].length, items = [];
    for (const line of lines) {
      const item = ITEM.exec(line);
      if (item && item[1].length <= edge + 1) items.push({ width: item[1].length + item[2].length + 1, lines: [item[3] ?? ""] });
      else if (items.length) items.at(-1).lines.push(line);
    }
    for (const item of items) {
      const li = element("li");
      const own = item.lines.map((line, n) => (n ? line.replace(new RegExp(`^ {0,${item.width}}`), "") : line));
      const task = /^\[([ xX])\]\s+/.exec(own[0]);
      if (task) {
        own[0] = own[0].slice(task[0].length);
        li.append(task[1] === " " ? "☐ " : "☑ ");
      }
      const inner = blocks(own.join("\n"));
      // A tight item's text stands in it directly, without a paragraph around it.
      if (inner[0]?.kind === "paragraph") { const span = element("span"); inline(span, inner.shift().text); li.append(span); }
      for (const block of inner) {
        if (depth >= DEEPEST) li.append(block.raw);
        else li.append(render(block, depth + 1));
      }
      made.append(li);
    }
    return made;
  }

  function table(lines) {
    const scroll = element("div", "scroll"), made = element("table", "table"), head = element("thead"), rows = element("tbody");
    const sides = cells(lines[1]).map((cell) => (/^:-+:$/.test(cell) ? "center" : /-:$/.test(cell) ? "right" : ""));
    lines.forEach((line, n) => {
      if (n === 1) return;
      const row = element("tr");
      cells(line).forEach((cell, place) => {
        const one = element(n ? "td" : "th", sides[place] === "right" ? "num" : sides[place] || "");
        inline(one, cell);
        row.append(one);
      });
      (n ? rows : head).append(row);
    });
    made.append(head, rows);
    scroll.append(made);
    return scroll;
  }

  function cells(line) {
    const found = [""];
    const inner = line.trim().replace(/^\|/, "").replace(/\|$/, "");
    for (let at = 0; at < inner.length; at += 1) {
      if (inner[at] === "\\" && inner[at + 1] === "|") { found[found.length - 1] += "|"; at += 1; }
      else if (inner[at] === "|") found.push("");
      else found[found.length - 1] += inner[at];
    }
    return found.map((cell) => cell.trim());
  }

  // --- Inline: a scan from left to right. What was looked for ahead is remembered, so it stays linear.
  const MARKS = [["**", "strong"], ["__", "strong"], ["~~", "s"], ["*", "em"], ["_", "em"]];

  function inline(parent, text, depth = 0) {
    const places = new Map();
    let plain = "", at = 0;
    const flush = () => { if (plain) parent.append(plain); plain = ""; };
    const find = (what, from) => {
      const before = places.get(what);
      if (before !== undefined && (before < 0 || before >= from)) return before;
      const found = text.indexOf(what, from);
      places.set(what, found);
      return found;
    };
    while (at < text.length) {
      const letter = text[at];
      if (letter === "\\" && ESCAPED.test(text[at + 1] ?? "")) { plain += text[at + 1]; at += 2; continue; }
      if (letter === "`") {
        const ticks = /^`+/.exec(text.slice(at, at + 20))[0], end = find(ticks, at + ticks.length);
        if (end > 0) {
          flush();
          const made = element("code");
          made.textContent = text.slice(at + ticks.length, end).replaceAll("\n", " ");
          parent.append(made);
          at = end + ticks.length;
          continue;
        }
        plain += ticks;
        at += ticks.length;
        continue;
      }
      if (letter === "[" || (letter === "!" && text[at + 1] === "[")) {
        const found = link(text, at, find);
        if (found) {
          flush();
          parent.append(anchor(found, depth));
          at = found.end;
          continue;
        }
      }
      if (letter === "<") {
        const end = find(">", at), address = end > 0 && end - at < 2000 ? safe(text.slice(at + 1, end)) : "";
        if (address && !/\s/.test(text.slice(at + 1, end))) {
          flush();
          parent.append(anchor({ text: text.slice(at + 1, end), address }, DEEPEST));
          at = end + 1;
          continue;
        }
      }
      if (letter === "h" && (text.startsWith("https://", at) || text.startsWith("http://", at)) && !WORD.test(text[at - 1] ?? "")) {
        const bare = /^https?:\/\/[^\s<>"'`\])]+/.exec(text.slice(at, at + 2000))?.[0].replace(/[.,;:!?*_]+$/, "") ?? "";
        const address = safe(bare);
        if (address) {
          flush();
          parent.append(anchor({ text: bare, address }, DEEPEST));
          at += bare.length;
          continue;
        }
      }
      const mark = depth < DEEPEST && "*_~".includes(letter) ? emphasis(text, at, find) : null;
      if (mark) {
        flush();
        const made = element(mark.name);
        inline(made, mark.text, depth + 1);
        parent.append(made);
        at = mark.end;
        continue;
      }
      if (letter === "\n") {
        if (/ {2,}$/.test(plain.slice(-9))) { plain = plain.trimEnd(); flush(); parent.append(element("br")); }
        else plain += "\n";
        at += 1;
        continue;
      }
      plain += letter;
      at += 1;
    }
    flush();
  }

  function emphasis(text, at, find) {
    for (const [sign, name] of MARKS) {
      if (!text.startsWith(sign, at)) continue;
      const begin = at + sign.length, isWord = sign[0] === "_" && WORD.test(text[at - 1] ?? "");
      if (isWord || /\s/.test(text[begin] ?? " ")) continue;
      let end = find(sign, begin + 1);
      // The closing sign follows a letter; a longer run of the same sign closes what is inside first.
      const most = begin + FARTHEST;
      if (sign.length === 1) while (end > 0 && end < most && text[end + 1] === sign && text[end - 1] !== sign) end = text.indexOf(sign, end + 2);
      if (end < 0 || end > most || /\s/.test(text[end - 1])) continue;
      if (sign[0] === "_" && WORD.test(text[end + sign.length] ?? "")) continue;
      return { name, text: text.slice(begin, end), end: end + sign.length };
    }
    return null;
  }

  // [text](address "title") and ![text](address): null if it is none.
  function link(text, at, find) {
    const isPicture = text[at] === "!", begin = at + (isPicture ? 2 : 1), middle = find("](", begin);
    if (middle < 0 || middle - begin > FARTHEST) return null;
    let end = middle + 2, open = 1;
    for (const most = Math.min(text.length, end + FARTHEST / 2); end < most; end += 1) {
      if (text[end] === "\n") return null;
      if (text[end] === "(") open += 1;
      if (text[end] === ")") open -= 1;
      if (!open) break;
    }
    if (open) return null;
    const address = text.slice(middle + 2, end).trim().replace(/\s+["'(].*$/, "").replace(/^<(.*)>$/, "$1");
    return { text: text.slice(begin, middle), address: safe(address), said: address, isPicture, end: end + 1 };
  }

  function anchor({ text, address, said, isPicture }, depth) {
    const made = element(address ? "a" : "span", address ? "link" : "no-link");
    if (address) {
      made.href = address;
      made.rel = "noopener noreferrer nofollow ugc";
      made.target = "_blank";
      made.title = address;
    } else {
      made.title = `Not a link that is followed from here: ${said ?? ""}`.slice(0, 300);
    }
    if (isPicture) made.append("picture: ");
    if (depth >= DEEPEST) made.append(text);
    else inline(made, text, depth + 1);
    return made;
  }

  // Shows a text that grows. Blocks that are as they were keep their nodes, so a long answer costs what is new of it.
  function show(parent, text) {
    const wanted = blocks(text), there = [...parent.children];
    let at = 0;
    while (at < wanted.length && at < there.length && there[at].markdownSource === wanted[at].source) at += 1;
    for (const old of there.slice(at)) old.remove();
    for (const block of wanted.slice(at)) {
      const made = render(block, 0);
      made.markdownSource = block.source;
      parent.append(made);
    }
  }

  return { show };
})();
