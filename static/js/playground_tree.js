// Conversations as trees. A column has nodes by id, each with its parent, and a leaf: the end of the branch that is shown.
// A node is {id, parent, role: "user" | "assistant" | "tools", ...}. Pure, but for Store, which keeps them in this tab.
const Tree = {
  // A UUID, also where the page came without TLS and the browser makes none itself.
  id() {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
  },

  column(model) { return { id: Tree.id(), model, nodes: {}, leaf: null }; },

  add(column, node) {
    const made = { id: Tree.id(), at: Date.now() + Object.keys(column.nodes).length / 1000, ...node };
    column.nodes[made.id] = made;
    column.leaf = made.id;
    return made;
  },

  // From the first node to this one; without one to the leaf.
  path(column, id = column.leaf) {
    const found = [];
    for (let node = column.nodes[id]; node; node = column.nodes[node.parent]) found.unshift(node);
    return found;
  },

  children(column, id) {
    return Object.values(column.nodes).filter((node) => (node.parent ?? null) === (id ?? null)).sort((a, b) => a.at - b.at);
  },

  siblings(column, node) { return Tree.children(column, node.parent); },

  // The branch that goes through this node, to its newest end.
  show(column, id) {
    let last = id;
    for (let next = Tree.children(column, id).at(-1); next; next = Tree.children(column, last).at(-1)) last = next.id;
    column.leaf = last;
  },

  // The next or the one before among its siblings; nothing at either end.
  turn(column, node, step) {
    const all = Tree.siblings(column, node), other = all[all.findIndex((one) => one.id === node.id) + step];
    if (other) Tree.show(column, other.id);
    return Boolean(other);
  },

  // Another model's column with the same conversation; what is still being answered is left out.
  copy(column, model) {
    const made = structuredClone({ ...column, id: Tree.id(), model });
    while (made.nodes[made.leaf]?.said?.state === "running") made.leaf = made.nodes[made.leaf].parent ?? null;
    for (const node of Object.values(made.nodes)) if (node.said?.state === "running") delete made.nodes[node.id];
    return made;
  },

  // What a call is given: the messages from the first to this node.
  messages(column, id, { system, seesImages }) {
    const turns = Tree.path(column, id).flatMap((node) => Tree.message(node, seesImages));
    return [...(system.trim() ? [{ role: "system", content: system }] : []), ...turns];
  },

  message(node, seesImages) {
    if (node.role === "tools") return node.results.map((one) => ({ role: "tool", tool_call_id: one.id, content: one.content }));
    if (node.role === "user") {
      if (!node.images?.length || !seesImages) return [{ role: "user", content: node.text }];
      const pictures = node.images.map((url) => ({ type: "image_url", image_url: { url } }));
      return [{ role: "user", content: [{ type: "text", text: node.text }, ...pictures] }];
    }
    const calls = node.said.calls.map((call) => ({ id: call.id, type: "function", function: { name: call.name, arguments: call.arguments } }));
    if (!node.said.text && !calls.length) return [];
    return [{ role: "assistant", content: node.said.text || null, ...(calls.length ? { tool_calls: calls } : {}) }];
  },
};

// In this tab alone, for this member in this team, gone with the tab. Where it is too much, pictures are left out.
class Store {
  constructor(key) { this.key = `playground:${key}`; this.waiting = null; }

  read() {
    try { return JSON.parse(sessionStorage.getItem(this.key)); } catch { return null; }
  }

  // True if all of it is kept.
  write(state) {
    for (const withImages of [true, false]) {
      try {
        const text = JSON.stringify(state, (name, value) => (name === "images" && !withImages ? [] : value));
        sessionStorage.setItem(this.key, text);
        return withImages;
      } catch { /* too large, or not allowed here */ }
    }
    return false;
  }
}
