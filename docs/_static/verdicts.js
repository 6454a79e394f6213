// The page of verdicts: filters what is there, and opens what the address names.
(() => {
  "use strict";
  const form = document.getElementById("filter");
  const names = ["verdict", "dataset", "text"];
  const text = (element) => element.textContent.toLowerCase();
  const all = [...document.querySelectorAll("details.judgement")].map((element) => {
    const rule = element.closest(".rule"), claim = element.closest(".claim");
    const [statement, source] = claim.children;
    const words = [statement, source, rule.firstElementChild, element.firstElementChild].map(text);
    return { element, rule, claim, words: [claim.id.replaceAll("_", " "), ...words].join(" ") };
  });

  function show() {
    const { verdict, dataset } = form.elements;
    const words = form.elements.text.value.toLowerCase().split(/\s+/).filter(Boolean);
    const kept = all.filter((one) =>
      (!verdict.value || one.element.dataset.verdict === verdict.value) &&
      (!dataset.value || one.element.dataset.dataset === dataset.value) &&
      words.every((word) => one.words.includes(word)));
    const shown = new Set(kept.flatMap(({ element, rule, claim }) => [element, rule, claim, claim.id]));
    for (const { element, rule, claim } of all) for (const one of [element, rule, claim]) one.hidden = !shown.has(one);
    for (const row of document.querySelectorAll(".overview tbody tr")) row.hidden = !shown.has(row.dataset.claim);
    for (const cell of document.querySelectorAll(".overview [data-dataset]")) {
      cell.hidden = Boolean(dataset.value) && cell.dataset.dataset !== dataset.value;
    }
    const kind = verdict.value.replace(" ", "-");
    for (const link of document.querySelectorAll(".overview td a")) {
      link.hidden = Boolean(kind) && !link.firstElementChild.classList.contains(kind);
    }
    document.getElementById("count").textContent = kept.length === 1 ? "1 verdict." : `${kept.length} verdicts.`;
  }

  function read() {
    const query = new URLSearchParams(location.search);
    for (const name of names) form.elements[name].value = query.get(name) ?? "";
    for (const name of names.slice(0, 2)) if (form.elements[name].selectedIndex < 0) form.elements[name].value = "";
    show();
  }

  function write() {
    const query = new URLSearchParams(names.map((name) => [name, form.elements[name].value]).filter(([, value]) => value));
    history.replaceState(null, "", query.size ? `?${query}` : location.pathname);
    show();
  }

  function open() {
    let at = document.getElementById(location.hash.slice(1));
    if (!at || !at.closest(".claim")) return;
    for (let one = at; one; one = one.parentElement.closest("details")) one.open = true;
    at.scrollIntoView();
    at.querySelector("summary").focus({ preventScroll: true });
  }

  form.hidden = false;
  form.addEventListener("input", write); // letter by letter
  form.addEventListener("change", write);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(write)); // after the browser has emptied the fields
  addEventListener("popstate", read);
  addEventListener("hashchange", open);
  read();
  open();
})();
