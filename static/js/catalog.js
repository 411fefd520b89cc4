// The library: arrows between cards, ticks that outlive a search, filters that stay open.
(() => {
  const KEPT = "compare";
  const bar = document.getElementById("compare");
  if (!bar) return;
  const most = Number(bar.dataset.most);
  const picked = bar.querySelector("[data-picked]");
  const hint = picked.innerHTML;
  let chosen = {};
  try { chosen = JSON.parse(sessionStorage.getItem(KEPT)) || {}; } catch { /* none kept */ }

  const cards = () => [...document.querySelectorAll("[data-cards] h3 a")];
  const boxes = () => document.querySelectorAll(".pick input");
  function show() {
    const slugs = Object.keys(chosen);
    try { sessionStorage.setItem(KEPT, JSON.stringify(chosen)); } catch { /* this page alone */ }
    for (const box of boxes()) {
      // What is sent are the bar's own fields: a model that was ticked may be on another page.
      box.removeAttribute("name");
      box.checked = box.value in chosen;
      box.disabled = !box.checked && slugs.length >= most;
    }
    picked.replaceChildren();
    if (!slugs.length) picked.innerHTML = hint;
    for (const slug of slugs) {
      const chip = document.createElement("button");
      chip.type = "button";
      chip.className = "chip";
      chip.dataset.drop = slug;
      chip.setAttribute("aria-label", `Take ${chosen[slug]} away`);
      chip.textContent = `${chosen[slug]} ×`;
      const field = document.createElement("input");
      field.type = "hidden";
      field.name = "m";
      field.value = slug;
      picked.append(chip, field);
    }
    bar.querySelector(".primary").disabled = slugs.length < 2;
    bar.querySelector("[data-clear]").hidden = !slugs.length;
    bar.classList.toggle("is-idle", !slugs.length);
  }

  // Before the search's own listener: a tick is no search, nor is leaving the field whose words were searched as they
  // were typed.
  document.addEventListener("change", (event) => {
    if (event.target.id === "q") event.stopPropagation();
    if (!event.target.closest(".pick")) return;
    event.stopPropagation();
    if (event.target.checked) chosen[event.target.value] = event.target.dataset.name;
    else delete chosen[event.target.value];
    show();
  }, true);
  bar.addEventListener("click", (event) => {
    const chip = event.target.closest("[data-drop]");
    if (chip) delete chosen[chip.dataset.drop];
    else if (event.target.closest("[data-clear]")) chosen = {};
    else return;
    show();
  });

  let open = [];
  let held = false;
  document.addEventListener("htmx:beforeSwap", () => {
    held = cards().includes(document.activeElement);
    open = [...document.querySelectorAll("#found details[open]")].map((one) => one.id);
  });
  document.addEventListener("htmx:afterSwap", () => {
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    // An answer that came after the first arrow: on to what was found.
    if (held) cards()[0]?.focus();
    show();
  });
  for (const one of document.querySelectorAll(".more-choices")) one.open = Boolean(one.querySelector(":checked"));
  window.addEventListener("pageshow", show);

  const STEPS = { ArrowRight: () => 1, ArrowLeft: () => -1, ArrowDown: across, ArrowUp: (links) => -across(links) };
  function across(links) {
    const top = (link) => link.closest(".card").offsetTop;
    return Math.max(1, links.filter((link) => top(link) === top(links[0])).length);
  }
  document.addEventListener("keydown", (event) => {
    const step = STEPS[event.key];
    if (!step || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const links = cards();
    if (!links.length) return;
    const at = links.indexOf(document.activeElement);
    if (at < 0) {
      if (event.key !== "ArrowDown" || document.activeElement.id !== "q") return;
      event.preventDefault();
      links[0].focus();
      return;
    }
    event.preventDefault();
    const next = at + step(links);
    if (next < 0) document.getElementById("q").focus();
    else links[Math.min(next, links.length - 1)].focus();
  });
})();
