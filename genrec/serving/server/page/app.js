// The page: for whom, with which prompt and filters, which list. Each change asks for the list again.

import { call, callOr, inPath, Problem } from "./api.js";
import { combobox } from "./combobox.js";
import { button, byId, element, iconButton, rendered } from "./elements.js";
import { aboutItem, aboutValue, day, inWords, itemsOf } from "./entries.js";
import { explained } from "./explanation.js";
import { startFilters } from "./filters.js";
import { compared, facts, kindColumn, showChanges, showList } from "./listing.js";
import { activeRules, hearPrompt, showShortage, showUnderstood } from "./prompt.js";
import { showTaste, startAdding } from "./taste.js";

const TOP = 10;
const PATIENCE = 20_000; // milliseconds that a person rather waits for a list than goes without
const EVENTS = 50; // of a user, shown
const USERS = 200; // suggested
const WIDER = 5; // attributes of an item, offered instead of the item alone
const WIDE = matchMedia("(min-width: 56rem)"); // as in style.css: there is room for who it is beside the list

const titles = new Map(); // item id -> title, of all items seen so far
const state = {
  user: "", // empty for a new history
  history: [], // {item_id, time?}, oldest first
  entries: [], // of the taste profile
  prompt: "",
  filters: [], // conditions as text
  guidance: 1,
  excludeHistory: false,
  listed: null, // ids of the last list, for the same person
  columns: [], // of the catalogue, what items have in common
  users: [],
};

let running = new AbortController();

/** Returns the fields of a request, as the person, the prompt and the filters are now. */
function request() {
  const { filters, guidance, excludeHistory } = state;
  const fields = { top: TOP, filters, guidance, exclude_history: excludeHistory, deadline_ms: PATIENCE };
  if (state.user) fields.user = state.user;
  if (!state.user || !state.history.length) {
    // A user without events is unknown to the server, unless a history is given.
    fields.history = state.history.map((event) => event.item_id);
  }
  if (!state.user) fields.profile = { user: "", entries: state.entries };
  return state.prompt ? { ...fields, prompt: state.prompt, rules: activeRules() } : fields;
}

/** Runs an action of the person; returns whether it went well, and shows the problem and a way to try again if not. */
async function attempt(action) {
  try {
    await action();
    byId("problem").hidden = true;
    return true;
  } catch (problem) {
    if (problem.name === "AbortError") return false;
    if (!(problem instanceof Problem)) throw problem;
    const wait = problem.retryAfter ? ` Try again in ${problem.retryAfter} s.` : "";
    const id = problem.requestId ? ` (request ${problem.requestId})` : "";
    byId("problem-text").textContent = `${problem.message}${wait}${id}`;
    byId("problem-again").onclick = async () => (await attempt(action)) && action !== recommend && refresh();
    byId("problem").hidden = false;
    return false;
  }
}

const refresh = () => attempt(recommend);

async function recommend() {
  running.abort();
  running = new AbortController();
  const list = byId("list");
  list.setAttribute("aria-busy", "true");
  const { signal } = running;
  try {
    const answer = await call("POST", "v1/recommend", { requests: [request()] }, signal);
    const [found] = answer.results;
    if (found.problem) throw new Problem(found.problem);
    showFound(found);
    byId("bundle").textContent = `model ${answer.bundle.fingerprint.slice(0, 8)}`;
  } finally {
    if (!signal.aborted) list.removeAttribute("aria-busy");
  }
}

function showFound(found) {
  const items = found.recommended;
  items.forEach(remember);
  const ids = items.map((item) => item.item_id);
  const change = state.listed && compared(state.listed, ids);
  const kindOf = (item) => state.entries.find((entry) => entry.about === aboutItem(item.item_id))?.kind;
  const best = items.length ? items[0].score : 0;
  const moves = change ? change.moves : null;
  showList(items, { columns: state.columns, moves, certified: found.certified, best, kindOf, prefer, choose, explain });
  showChanges(state.listed, change ?? {}, titles);
  state.listed = ids;
  showUnderstood(found.understood, refresh);
  showShortage(found.shortage, refresh);
  byId("list-empty").hidden = items.length > 0;
  byId("certified").textContent = found.certified
    ? `The first ${found.certified} are certified: no other eligible item is more likely.`
    : "";
}

function remember(item) {
  titles.set(item.item_id, item.title);
  return item;
}

/** Fetches the titles of items that were not seen yet; an id stands for an item that is gone. */
async function learnTitles(ids) {
  const unknown = [...new Set(ids)].filter((id) => !titles.has(id));
  const found = await Promise.all(unknown.map((id) => callOr({ item_id: id, title: id }, `v1/items/${inPath(id)}`)));
  found.forEach(remember);
}

async function findItems(text, signal) {
  if (!text) return [];
  const { items } = await call("GET", `v1/items?prefix=${inPath(text)}&limit=20`, undefined, signal);
  return items.map(remember);
}

// The person

let going = ""; // the user that was asked for last

async function setUser(user) {
  going = user;
  let [events, entries] = [[], []];
  if (user) {
    const path = inPath(user);
    ({ events } = await callOr({ events }, `v1/users/${path}/events?last=${EVENTS}`));
    ({ entries } = await callOr({ entries }, `v1/profiles/${path}`));
    events.forEach((event) => event.title && remember(event));
    await learnTitles([...events.map((event) => event.item_id), ...itemsOf(entries)]);
  }
  if (going !== user) return;
  Object.assign(state, { user, history: events, entries, listed: null });
  byId("toast").hidden = true;
  showPerson();
}

/** Goes to a user, or with "" to somebody new with an empty history. */
const goTo = async (user) => (await attempt(() => setUser(user))) && refresh();

function showPerson() {
  const { user, history } = state;
  byId("person").textContent = user || "somebody new";
  byId("history-count").textContent = String(history.length);
  byId("history-empty").hidden = history.length > 0;
  byId("clear-history").hidden = Boolean(user) || !history.length;
  byId("delete-user").hidden = byId("new-person").hidden = !user;
  const rows = history.map((event, place) => {
    const note = event.time ? element("span", { class: "note" }, new Date(event.time).toLocaleDateString()) : null;
    const title = titles.get(event.item_id);
    const remove = user ? null : iconButton("close", `Remove: ${title}`, () => setHistory(history.toSpliced(place, 1)));
    return element("li", {}, element("span", {}, title), note, remove);
  });
  rendered(byId("history"), rows.reverse(), byId("title-search"));
  showTaste(state.entries, titles, changeTaste);
}

function setHistory(history) {
  state.history = history;
  showPerson();
  return refresh();
}

/** Adds an item to the history: a user's event goes to the server, where the next list knows it. */
async function choose(item) {
  const done = await attempt(async () => {
    remember(item);
    const { item_id: id } = item;
    if (state.user) await call("POST", "v1/events", { user: state.user, events: [{ item_id: id }] });
    state.history = [...state.history, { item_id: id, time: state.user ? new Date().toISOString() : null }];
    toast(`“${item.title}” is in the history.`);
    showPerson();
  });
  return done && refresh();
}

// The taste

let patching = Promise.resolve(); // the last change: changes are made one after the other, so that none is lost to view

/** Applies `{add, remove}` to the profile, on the server for a user, else here; returns whether that went well. */
async function changeTaste(change) {
  const done = await attempt(async () => {
    if (state.user) {
      const patch = () => call("PATCH", `v1/profiles/${inPath(state.user)}`, change);
      patching = patching.then(patch, patch);
      state.entries = (await patching).entries;
    } else {
      const gone = new Set([...change.remove, ...change.add.map((entry) => entry.about)]);
      state.entries = [...state.entries.filter((entry) => !gone.has(entry.about)), ...change.add];
    }
    await learnTitles(itemsOf(state.entries));
    showPerson();
  });
  if (done) await refresh();
  else showPerson(); // as it was
  return done;
}

const DONE = { more_of: "More of", less_of: "Less of", blocked: "Never again:" };

/** More of an item, less of it, or never again; pressed once more, what was said is taken back. */
async function prefer(kind, item, byKeyboard) {
  const about = aboutItem(item.item_id);
  const before = state.entries.find((entry) => entry.about === about);
  if (before?.kind === kind) return changeTaste({ add: [], remove: [about] });
  if (!(await changeTaste({ add: [{ kind, about, since: day() }], remove: [] }))) return;
  const undo = () => changeTaste(before ? { add: [before], remove: [] } : { add: [], remove: [about] });
  const wider = distinctive(item).map(([column, value]) => {
    const instead = { add: [{ kind, about: aboutValue(column, value), since: day() }], remove: [about] };
    const widen = () => {
      closeToast();
      return changeTaste(instead);
    };
    return button(null, value, widen, { class: "chip", about: column.replaceAll("_", " ") });
  });
  toast(`${DONE[kind]} “${item.title}”.`, { wider, undo, focus: byKeyboard });
}

/** Returns `[column, value]` of attributes that tell an item from most others. */
function distinctive(item) {
  const common = ([column, value]) => {
    const { values } = state.columns.find(({ name }) => name === column);
    const counted = values.map(({ items }) => items);
    const items = values.find((one) => one.value === value)?.items ?? 0;
    return items > 0.8 * counted.reduce((sum, one) => sum + one, 0);
  };
  return facts(item, state.columns)
    .filter((fact) => !common(fact))
    .slice(0, WIDER);
}

let toastFrom = null; // what had the focus before the message

/** Says what was done, with wider choices instead of it, and how to take it back; `focus` moves the focus there. */
function toast(text, { wider = [], undo = null, focus = false } = {}) {
  byId("toast-text").textContent = text;
  byId("toast-wider").hidden = !wider.length;
  byId("toast-choices").replaceChildren(...wider);
  byId("toast-undo").hidden = !undo;
  byId("toast-undo").onclick = () => {
    closeToast();
    undo();
  };
  byId("toast").hidden = false;
  if (!focus) return;
  toastFrom = document.activeElement;
  byId("toast").focus();
}

/** Closes the message; the focus goes back to where it came from. */
function closeToast() {
  const within = byId("toast").contains(document.activeElement);
  byId("toast").hidden = true;
  if (within) (toastFrom?.isConnected ? toastFrom : byId("list-title")).focus();
}

async function explain(item, panel) {
  panel.replaceChildren(element("p", { class: "note" }, "Computing …"));
  try {
    const { explanations } = await call("POST", "v1/explain", { ...request(), items: [item.item_id] });
    panel.replaceChildren(...explained(explanations[0], titles, state.guidance !== 1));
  } catch (problem) {
    panel.replaceChildren(element("p", { class: "note" }, problem.message));
  }
}

// The start

function startPerson() {
  const unfold = () => (byId("person-details").open = WIDE.matches);
  WIDE.onchange = unfold;
  unfold();
  const withKind = (item) => ({ ...item, text: item.title, note: item.attributes[kindColumn(state.columns)] });
  const findTitles = async (text, signal) => (await findItems(text, signal)).map(withKind);
  combobox(byId("title-search"), byId("title-options"), byId("title-status"), findTitles, choose);
  const findUsers = async (text) => {
    const like = state.users.filter(({ user }) => user.toLowerCase().includes(text.toLowerCase()));
    return like.slice(0, 50).map(({ user, events }) => ({ text: user, note: `${events} events`, user }));
  };
  const toUser = ({ user }) => goTo(user);
  combobox(byId("user-search"), byId("user-options"), byId("user-status"), findUsers, toUser, (text) => ({
    user: text,
  }));
  byId("new-person").onclick = () => goTo("");
  byId("clear-history").onclick = () => setHistory([]);
  byId("delete-user").onclick = () => {
    byId("delete-name").textContent = state.user;
    byId("delete-dialog").showModal();
  };
  byId("delete-cancel").onclick = () => byId("delete-dialog").close();
  byId("delete-yes").onclick = async () => {
    byId("delete-dialog").close();
    if (!(await attempt(() => call("DELETE", `v1/users/${inPath(state.user)}`)))) return;
    state.users = state.users.filter(({ user }) => user !== state.user);
    goTo("");
  };
}

function startTaste() {
  startAdding(() => state.columns, findItems, changeTaste);
  byId("forget-taste").onclick = async () => {
    const before = state.entries;
    if (!(await changeTaste({ add: [], remove: before.map((entry) => entry.about) }))) return;
    toast("The taste is forgotten.", { undo: () => changeTaste({ add: before, remove: [] }) });
  };
  byId("forget-learned").onclick = () => {
    const learned = state.entries.filter((entry) => entry.source === "learned");
    changeTaste({ add: [], remove: learned.map((entry) => entry.about) });
  };
  byId("toast-close").onclick = closeToast;
  byId("toast").onkeydown = (event) => (event.key === "Escape" ? closeToast() : undefined);
}

function startAsking() {
  byId("ask").onsubmit = (event) => {
    event.preventDefault();
    state.prompt = byId("prompt").value.trim();
    hearPrompt();
    refresh();
  };
  byId("prompt").oninput = () => {
    if (byId("prompt").value === "" && state.prompt) byId("ask").requestSubmit(); // the field's own button clears it
  };
  byId("guidance").oninput = (event) => (byId("guidance-value").textContent = event.target.value);
  byId("guidance").onchange = (event) => {
    state.guidance = Number(event.target.value);
    refresh();
  };
  byId("exclude-history").onchange = (event) => {
    state.excludeHistory = event.target.checked;
    refresh();
  };
}

async function start() {
  const [{ prompts }, { columns }, { users }] = await Promise.all([
    call("GET", "version"),
    call("GET", "v1/columns"),
    callOr({ users: [] }, `v1/users?limit=${USERS}`),
  ]);
  Object.assign(state, { columns: columns.filter(({ name }) => name !== "title"), users });
  byId("ask").hidden = byId("guidance-field").hidden = !prompts;
  byId("user-hint").hidden = users.length > 0;
  startFilters(columns, kindColumn(columns), (filters) => {
    state.filters = filters;
    refresh();
  });
  await setUser("");
  await recommend();
}

startPerson();
startTaste();
startAsking();
attempt(start);
