// The explorer: draws the user, data set and models that the address names, from explorer/<data set>.js.
// Data come as scripts, not as JSON: pages opened from disk may load no JSON.
(() => {
  "use strict";
  const page = document.getElementById("one-user");
  const form = document.getElementById("choice");
  const part = (name) => document.getElementById(name);
  const held = (window.explorerData ??= {});

  function make(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  // --- state: the address ---------------------------------------------------------------------------------------

  function load(name) {
    if (held[name]) return Promise.resolve(held[name]);
    return new Promise((done, failed) => {
      const script = make("script", { src: `explorer/${name}.js` });
      script.onload = () => done(held[name]);
      script.onerror = () => failed(new Error(`explorer/${name}.js cannot be loaded`));
      document.head.append(script);
    });
  }

  // What the address asks for; a part that is missing or unknown has its default.
  async function asked() {
    const query = new URLSearchParams(location.search);
    const names = [...form.elements.data.options].map((option) => option.value);
    const data = await load(names.includes(query.get("data")) ? query.get("data") : names[0]);
    const found = data.users.findIndex((user) => String(user.user) === query.get("user"));
    const place = Math.max(0, found);
    const unknown = query.has("user") && found < 0 ? `User ${query.get("user")} is not among the users drawn. ` : "";
    const wanted = (query.get("models") ?? "").split(",");
    const models = data.models.filter((name) => wanted.includes(name));
    return { data, place, unknown, user: data.users[place], models: models.length ? models : data.models };
  }

  function go(changes) {
    const query = new URLSearchParams(location.search);
    for (const [name, value] of Object.entries(changes)) {
      if (value === null) query.delete(name);
      else query.set(name, value);
    }
    history.pushState(null, "", `?${query}`);
    draw();
  }

  // --- parts of the page ----------------------------------------------------------------------------------------

  function fill({ data, user, models }) {
    if (page.dataset.filled !== data.dataset) {
      const options = data.users.map((one) => make("option", { value: one.user }, `${one.user} (${one.length} items)`));
      form.elements.user.replaceChildren(...options);
      const box = (name) => make("label", {}, make("input", { type: "checkbox", name: "model", value: name }), ` ${name}`);
      part("models").replaceChildren(...data.models.map(box));
      page.dataset.filled = data.dataset;
    }
    form.elements.data.value = data.dataset;
    form.elements.user.value = user.user;
    for (const box of part("models").querySelectorAll("input")) box.checked = models.includes(box.value);
  }

  function item(data, number) {
    const [title, picture] = data.items[number];
    const shown = picture ? [make("img", { src: picture, alt: "", width: 64, height: 64 })] : [];
    return [...shown, make("span", {}, title || "(no title)")];
  }

  function list(data, user, name) {
    const { ranks, top } = user.answers[name];
    const entry = (number) => {
      const bought = number === user.target;
      const mark = bought ? [make("strong", {}, "bought next")] : [];
      return make("li", bought ? { class: "bought" } : {}, ...item(data, number), ...mark);
    };
    const below = top.includes(user.target)
      ? []
      : [make("p", { class: "bought" }, ...item(data, user.target), make("strong", {}, `bought next: rank ${ranks[0]}`))];
    const title = make("h3", {}, name);
    return make("section", { class: "model", "data-model": name }, title, make("ol", {}, ...top.map(entry)), ...below);
  }

  function table(place, head, rows) {
    const heads = head.map((text) => make("th", { scope: "col" }, text));
    const body = rows.map(([first, ...others]) =>
      make("tr", {}, make("th", { scope: "row" }, first), ...others.map((text) => make("td", {}, String(text)))));
    place.replaceChildren(make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...body));
  }

  // --- charts ---------------------------------------------------------------------------------------------------

  const colour = (name) => getComputedStyle(document.body).getPropertyValue(`--pst-color-${name}`).trim();

  function chart(place, label, widest, options) {
    const width = Math.max(280, Math.min(widest, place.clientWidth));
    const drawn = Plot.plot({ width, style: { background: "none", fontSize: "12px" }, ...options });
    for (const svg of drawn.matches("svg") ? [drawn] : drawn.querySelectorAll("svg")) {
      svg.setAttribute("role", "img");
      svg.setAttribute("aria-label", label);
      for (const mark of svg.querySelectorAll("[aria-label]")) { // labels inside of an image are not allowed
        mark.dataset.mark = mark.getAttribute("aria-label");
        mark.removeAttribute("aria-label");
      }
    }
    place.append(drawn);
  }

  function drawWithout(data, user, models) {
    const names = models.filter((name) => user.without[name]);
    const states = ["all features", ...data.modalities.map((name) => `without ${name}`), "without any"];
    const ranks = (name) => [user.answers[name].ranks[0], ...user.without[name]];
    part("without-chart").replaceChildren();
    if (!names.length) {
      part("without").replaceChildren(make("caption", {}, "None of the chosen models reads features."));
      return;
    }
    table(part("without"), ["model", ...states], names.map((name) => [name, ...ranks(name)]));
    const points = names.flatMap((model) =>
      ranks(model).map((rank, at) => ({ model, rank, state: states[at], before: ranks(model)[0] })));
    chart(part("without-chart"), "Rank of the item bought next without each modality; the table has the numbers", 760, {
      marginLeft: 120, marginRight: 20 + 7 * d3.max(names, (name) => name.length), marginBottom: 40, height: 60 + 120 * names.length, grid: true,
      x: { type: "log", domain: [1, data.catalogue], label: "rank (1 is best)", ticks: [1, 10, 100, 1000, 10000].filter((at) => at <= data.catalogue), tickFormat: "d" },
      y: { domain: states, label: null }, fy: { domain: names, label: null },
      marks: [
        Plot.link(points, { fy: "model", y: "state", x1: "before", x2: "rank", stroke: colour("text-muted") }),
        Plot.dot(points, { fy: "model", y: "state", x: "rank", r: 5, fill: colour("primary"), title: (d) => `${d.state}: rank ${d.rank}` }),
      ],
    });
  }

  function drawAttention(data, user) {
    const first = user.length - user.history.length + 1; // the number of the first item that is shown
    const shown = user.weights[0].length;
    const places = d3.range(shown).map((at) => user.length - shown + at + 1);
    const title = (place) => `${place}. ${data.items[user.history[place - first]][0]}`;
    const layers = user.weights.map((_, at) => `layer ${at + 1}`);
    const weights = user.weights.flatMap((of, layer) =>
      of.map((weight, at) => ({ layer: layers[layer], place: places[at], weight })));
    const scores = user.scores.flatMap((streams, layer) => streams.flatMap((of, stream) =>
      of.map((score, at) => ({ layer: layers[layer], stream: data.streams[stream], place: places[at], score }))));
    const bound = d3.max(scores, (of) => Math.abs(of.score)) || 1;
    const step = Math.ceil(shown / 15), widest = 140 + 70 * shown;
    const x = { type: "band", domain: places, label: "item of the history", ticks: places.filter((_, at) => at % step === 0) };
    const frame = { marginLeft: 80, marginBottom: 40, marginRight: layers.length > 1 ? 55 : 20, x, fy: { label: null, domain: layers, padding: 0.2, axis: layers.length > 1 ? "right" : null } };
    part("attention").replaceChildren();
    chart(part("attention"), "Weight of each item after fusion; the numbers are below", widest, {
      ...frame, height: 60 + 100 * layers.length, y: { domain: [0, 1], label: "weight", ticks: [0, 0.5, 1], grid: true },
      marks: [
        Plot.barY(weights, { fy: "layer", x: "place", y: "weight", fill: colour("primary"), title: (d) => `${title(d.place)}: ${d.weight}` }),
        Plot.ruleY([0]),
      ],
    });
    const range = ["#d97706", colour("surface"), "#2563eb"]; // both ends are told apart in grey and by the colour-blind
    chart(part("attention"), "Score of each stream for each item; the numbers are below", widest, {
      ...frame, height: 60 + layers.length * 32 * data.streams.length, y: { domain: data.streams, label: null }, padding: 0.04,
      color: { type: "diverging", domain: [-bound, bound], interpolate: d3.piecewise(d3.interpolateLab, range), legend: true, label: "score less the stream's mean" },
      marks: [Plot.cell(scores, { fy: "layer", x: "place", y: "stream", fill: "score", title: (d) => `${d.stream}, ${title(d.place)}: ${d.score}` })],
    });
    const numbers = layers.map((layer, at) => {
      const of = make("table");
      table(of, [layer, "weight", ...data.streams], places.map((place, row) =>
        [title(place), user.weights[at][row], ...user.scores[at].map((scores) => scores[row])]));
      return make("div", { class: "scrolls", tabindex: 0, role: "region", "aria-label": `Attention of ${layer}` }, of);
    });
    part("attention-numbers").replaceChildren(...numbers);
  }

  // --- drawing, and what the reader does ------------------------------------------------------------------------

  async function draw() {
    let found;
    try {
      found = await asked();
    } catch (error) {
      part("told").textContent = error.message;
      page.hidden = false;
      return;
    }
    const { data, place, unknown, user, models } = found;
    page.hidden = false;
    fill(found);
    form.elements.previous.disabled = place === 0;
    form.elements.next.disabled = place === data.users.length - 1;
    const ranks = models.map((name) => `${name} ${user.answers[name].ranks[0]}`).join(", ");
    part("told").textContent = `${unknown}User ${user.user} of ${data.dataset} bought “${data.items[user.target][0]}” next. Its rank: ${ranks}.`;
    const first = user.length - user.history.length + 1;
    part("history-note").textContent = first === 1
      ? `${user.length} items, the oldest first.` : `The latest ${user.history.length} of ${user.length} items, the oldest first.`;
    part("history").start = first;
    part("history").replaceChildren(...user.history.map((number) => make("li", {}, ...item(data, number))));
    part("lists").replaceChildren(...models.map((name) => list(data, user, name)));
    const sampled = data.protocols.at(-1);
    part("sampled").textContent = `${sampled}: among itself and ${sampled.replace("sampled_", "")} drawn items.`;
    table(part("ranks"), ["model", ...data.protocols], models.map((name) => [name, ...user.answers[name].ranks]));
    drawWithout(data, user, models);
    drawAttention(data, user);
    page.dataset.shown = `${data.dataset} ${user.user} ${models}`;
  }

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("change", ({ target }) => {
    if (target.name === "data") go({ data: target.value, user: null, models: null });
    if (target.name === "user") go({ user: target.value });
    if (target.name === "model") {
      const ticked = [...part("models").querySelectorAll(":checked")].map((box) => box.value);
      go({ models: ticked.length ? ticked.join(",") : null }); // none: all
    }
  });
  for (const [name, step] of [["previous", -1], ["next", 1]]) {
    form.elements[name].addEventListener("click", () => {
      const select = form.elements.user;
      go({ user: select.options[select.selectedIndex + step].value });
    });
  }
  window.addEventListener("popstate", draw);
  // Charts have the colours and the width of the page.
  new MutationObserver(draw).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  let width = innerWidth;
  window.addEventListener("resize", () => {
    if (innerWidth !== width) draw();
    width = innerWidth;
  });
  draw();
})();
