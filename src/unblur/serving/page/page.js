// The page in front of a model: of a service, which is asked, or of an export, whose numbers are here (`unblurModel`).
"use strict";

const element = (id) => document.getElementById(id);

// ------------------------------------------------------------------------------------------------- where answers come from

class Service {
  token = "";

  async ask(path, body) {
    const headers = { ...(this.token && { authorization: `Bearer ${this.token}` }), ...(body && { "content-type": "application/json" }) };
    const answer = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body) });
    if (answer.status === 401) {
      this.token = await askForToken();
      return this.ask(path, body);
    }
    const content = await answer.json();
    if (!answer.ok) throw new Error(content.error.message);
    return content;
  }

  model() { return this.ask("v1/model"); }

  async search(text, limit) { return (await this.ask(`v1/items?${new URLSearchParams({ search: text, limit })}`)).items; }

  async recommend(history, out, k, where) {
    const user = { history, exclude: out };
    const body = { users: [user], k, explain: true, ...(where && { where }) };
    return (await this.ask("v1/recommend", body)).users[0].items;
  }

  async similar(item, k) { return (await this.ask("v1/similar", { items: [item], k })).items[0].similar; }
}

class Export {
  constructor(data) {
    const numbers = (text, Type) => new Type(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);
    this.data = data;
    this.ends = numbers(data.ends, Uint32Array);
    this.targets = numbers(data.targets, Uint32Array);
    this.weights = numbers(data.weights, Float32Array);
    this.near = numbers(data.near, Uint32Array);
    this.positions = new Map(data.labels.map((label, position) => [label, position]));
    // Equal scores: the item of more users first, then by position, as in a list of the model.
    this.popular = data.labels.map((_, position) => position).sort((a, b) => data.counts[b] - data.counts[a] || a - b);
    this.rank = [];
    this.popular.forEach((position, rank) => { this.rank[position] = rank; });
    this.lower = data.titles.map((title) => title.toLowerCase());
  }

  async model() { return this.data.model; }

  entry(position) { return { item: this.data.labels[position], title: this.data.titles[position] }; }

  async search(text, limit) {
    const matches = this.popular.filter((position) => this.lower[position].includes(text.toLowerCase()));
    return matches.slice(0, limit).map((position) => ({ ...this.entry(position), count: this.data.counts[position] }));
  }

  row(position) { return [this.ends[position], this.ends[position + 1]]; }

  async recommend(history, out, k) {
    const rows = history.map((item) => this.positions.get(item));
    const scores = new Float64Array(this.data.labels.length);
    for (const row of rows) {
      const [start, end] = this.row(row);
      for (let i = start; i < end; i += 1) scores[this.targets[i]] += this.weights[i];
    }
    const own = new Set([...history, ...out]);
    const best = this.popular.filter((position) => !own.has(this.data.labels[position]));
    best.sort((a, b) => scores[b] - scores[a] || this.rank[a] - this.rank[b]);
    return best.slice(0, k).map((position) => ({
      ...this.entry(position),
      score: rows.length ? scores[position] : this.data.counts[position],
      filled: !scores[position],
      because: this.because(rows, position),
    }));
  }

  because(rows, position) {
    const reasons = rows.map((row) => {
      const [start, end] = this.row(row);
      const place = this.targets.subarray(start, end).indexOf(position);
      return { ...this.entry(row), share: place < 0 ? 0 : this.weights[start + place] };
    });
    return reasons.filter((reason) => reason.share).sort((a, b) => b.share - a.share).slice(0, 5);
  }

  async similar(item, k) {
    const start = this.positions.get(item) * this.data.width;
    return [...this.near.subarray(start, start + Math.min(k, this.data.width))].map((position) => this.entry(position));
  }
}

const source = window.unblurModel ? new Export(window.unblurModel) : new Service();

function askForToken() {
  const dialog = element("token-dialog");
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      resolve(element("token").value);
      element("token").value = "";
    }, { once: true });
  });
}

// --------------------------------------------------------------------------------------------------------------- state

let history = []; // { item, title, out }: `out` is left out of the question, to see what the list would be without it
let before = null; // the list before something was left out or taken back: item → rank

const known = (item) => history.some((entry) => entry.item === item);

function add(entry) {
  if (!known(entry.item)) history = [...history, { item: entry.item, title: entry.title, out: false }];
  before = null;
  refresh();
}

function remove(item) {
  history = history.filter((entry) => entry.item !== item);
  before = null;
  refresh();
}

function leaveOut(item) {
  before ??= new Map(shown.map((entry, rank) => [entry.item, rank]));
  history = history.map((entry) => (entry.item === item ? { ...entry, out: !entry.out } : entry));
  if (!history.some((entry) => entry.out)) before = null;
  refresh();
}

// ------------------------------------------------------------------------------------------------------------- drawing

function button(text, label, action) {
  const control = document.createElement("button");
  control.type = "button";
  control.textContent = text;
  control.setAttribute("aria-label", label);
  control.addEventListener("click", action);
  return control;
}

function line({ title, mark = "", actions, detail = [] }) {
  const row = element("item").content.firstElementChild.cloneNode(true);
  row.querySelector(".title").textContent = title;
  row.querySelector(".mark").textContent = mark;
  row.querySelector(".actions").append(...actions);
  row.querySelector(".detail").append(...detail);
  return row;
}

const similarButton = (entry) => button("≈", `Items similar to ${entry.title}`, () => showSimilar(entry));
const addButton = (entry) => button("+", `Add ${entry.title} to the history`, () => add(entry));

function drawHistory() {
  const rows = history.map((entry) => {
    const out = button("what if not", `Leave out ${entry.title}`, () => leaveOut(entry.item));
    out.setAttribute("aria-pressed", entry.out);
    const actions = [out, ...(about.similar ? [similarButton(entry)] : []), button("×", `Remove ${entry.title}`, () => remove(entry.item))];
    const row = line({ title: entry.title, actions });
    row.classList.toggle("out", entry.out);
    return row;
  });
  keepFocus(element("history"), rows);
  element("empty").hidden = history.length > 0;
  element("clear").hidden = history.length === 0;
}

function reasons(entry) {
  const total = entry.because.reduce((sum, reason) => sum + Math.max(reason.share, 0), 0);
  const whole = Math.max(entry.score, total) || 1;
  return entry.because.slice(0, 3).map((reason) => {
    const part = Math.max(0, Math.min(1, reason.share / whole));
    const row = document.createElement("span");
    const share = document.createElement("span");
    const bar = document.createElement("i");
    const figure = document.createElement("b");
    const title = document.createElement("span");
    row.className = "reason";
    share.className = "share";
    bar.style.width = `${100 * part}%`;
    figure.textContent = `${Math.round(100 * part)} %`;
    title.textContent = `because of ${reason.title}`;
    share.append(bar, figure);
    row.append(share, title);
    return row;
  });
}

function change(item, rank) {
  if (!before) return "";
  if (!before.has(item)) return "new";
  const up = before.get(item) - rank;
  return up === 0 ? "" : up > 0 ? `▲ ${up}` : `▼ ${-up}`;
}

let shown = [];

function drawList(items) {
  shown = items;
  const rows = items.map((entry, rank) => line({
    title: `${rank + 1}. ${entry.title}`,
    mark: [change(entry.item, rank), entry.filled ? "popular" : ""].filter(Boolean).join(" · "),
    actions: [...(about.similar ? [similarButton(entry)] : []), addButton(entry)],
    detail: reasons(entry),
  }));
  keepFocus(element("list"), rows);
  const out = history.filter((entry) => entry.out).map((entry) => entry.title);
  element("note").textContent = [
    items.length ? "" : "Nothing is left to recommend.",
    out.length ? `What if not: ${out.join(", ")}.` : "",
  ].filter(Boolean).join(" ");
}

// The button that had the focus has it again after a list is drawn anew, so that the keyboard stays where it was.
function keepFocus(list, rows) {
  const label = list.contains(document.activeElement) ? document.activeElement.getAttribute("aria-label") : null;
  list.replaceChildren(...rows);
  if (label) [...list.querySelectorAll("button")].find((each) => each.getAttribute("aria-label") === label)?.focus();
}

async function showSimilar(entry) {
  await trying(async () => {
    const items = await source.similar(entry.item, 10);
    element("similar-title").textContent = `Similar to ${entry.title}`;
    element("similar-list").replaceChildren(...items.map((near) => line({ title: near.title, actions: [addButton(near)] })));
    if (!element("similar").open) element("similar").showModal();
  });
}

async function trying(work) {
  try {
    await work();
    element("problem").hidden = true;
  } catch (problem) {
    element("problem").textContent = problem.message;
    element("problem").hidden = false;
  }
}

// ------------------------------------------------------------------------------------------------------------- asking

let asked = 0;

function refresh() {
  drawHistory();
  asked += 1;
  const mine = asked;
  return trying(async () => {
    const items = (out) => history.filter((entry) => entry.out === out).map((entry) => entry.item);
    const list = await source.recommend(items(false), items(true), Number(element("k").value), element("where").value.trim());
    if (mine === asked) drawList(list); // else a later question has overtaken this one
  });
}

let searched = 0;

async function search() {
  searched += 1;
  const mine = searched;
  await trying(async () => {
    const items = await source.search(element("search").value, 12);
    if (mine !== searched) return;
    keepFocus(element("found"), items.map((entry) => line({
      title: entry.title,
      mark: `${entry.count.toLocaleString("en")} users`,
      actions: [addButton(entry)],
    })));
  });
}

function later(work, milliseconds) {
  let timer;
  return () => { clearTimeout(timer); timer = setTimeout(work, milliseconds); };
}

// ----------------------------------------------------------------------------------------------------------- keyboard

function move(event) {
  const found = [...element("found").querySelectorAll("button")];
  const place = found.indexOf(document.activeElement);
  const inSearch = document.activeElement === element("search");
  if (event.key === "/" && !/INPUT|SELECT/.test(document.activeElement.tagName)) element("search").focus();
  else if (event.key === "ArrowDown" && (inSearch || place >= 0)) found[Math.min(place + 1, found.length - 1)]?.focus();
  else if (event.key === "ArrowUp" && place >= 0) (found[place - 1] ?? element("search")).focus();
  else if (event.key === "Enter" && inSearch) found[0]?.click();
  else return;
  event.preventDefault();
}

// -------------------------------------------------------------------------------------------------------------- start

let about = { similar: false };

async function start() {
  await trying(async () => {
    about = await source.model();
    document.title = `${about.name} · unblur`;
    element("name").textContent = about.name;
    const place = window.unblurModel ? ", in this page: nothing you do here leaves it" : "";
    element("about").textContent = `${about.kind}, ${about.items.toLocaleString("en")} items${place}`;
    element("where-field").hidden = !about.columns?.length;
    element("where").placeholder = `such as ${about.columns?.[1] ?? "item"} like "…%"`;
    element("where").title = `Columns: ${about.columns?.join(", ")}`;
  });
  await Promise.all([search(), refresh()]);
  document.documentElement.dataset.state = "ready";
}

element("search").addEventListener("input", later(search, 120));
element("k").addEventListener("change", refresh);
element("where").addEventListener("input", later(refresh, 400));
element("filters").addEventListener("submit", (event) => event.preventDefault());
element("clear").addEventListener("click", () => { history = []; before = null; refresh(); element("search").focus(); });
element("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  root.dataset.theme = dark ? "light" : "dark";
});
document.addEventListener("keydown", move);
start();
