// A field with a list of suggestions: the list is asked for as somebody types, so that no page carries all names.
(() => {
  const PAUSE_MS = 150;
  let timer;
  document.addEventListener("input", (event) => {
    const field = event.target.closest("[data-suggest]");
    if (!field || !field.list) return;
    clearTimeout(timer);
    timer = setTimeout(async () => {
      const asked = field.value.trim();
      try {
        const answer = await fetch(`${field.dataset.suggest}?q=${encodeURIComponent(asked)}`, { headers: { accept: "application/json" } });
        if (!answer.ok || field.value.trim() !== asked) return;
        const { choices } = await answer.json();
        field.list.replaceChildren(...choices.filter((one) => one.path !== "alias" && !one.why_not).map((one) => {
          const option = document.createElement("option");
          option.value = one.name;
          if (one.label !== one.name) option.label = one.label;
          return option;
        }));
      } catch { /* the names that came with the page stay */ }
    }, PAUSE_MS);
  });
})();
