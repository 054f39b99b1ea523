// The list of recommended items, what changed in it, and the buttons of its items.

import { aboutItem } from "./entries.js";
import { button, byId, element, hidden, icon, joined } from "./elements.js";

const KIND_COLUMNS = ["media_type", "type", "kind", "format"]; // that may say what an item is
const DRAWN = {
  music: "music song track album",
  voice: "podcast episode radio",
  book: "audiobook book ebook e-book comic magazine novel story",
  video: "movie film video series show documentary clip",
  text: "article news paper post",
};
const LONGEST = 40; // characters of an attribute
const FACTS = 4; // attributes of an item

let numbers = 0; // of rows made so far, for ids
const rows = new Map(); // item id -> its row, which is kept, with the focus in it, while the item stays in the list

/** Returns the column that says what an item is, if there is one. */
export const kindColumn = (columns) => KIND_COLUMNS.find((name) => columns.some((column) => column.name === name));

/** Returns `[column, value]` of the attributes of an item that are short texts others have too, its kind first. */
export function facts(item, columns) {
  const kind = kindColumn(columns);
  const names = columns.filter(({ type, values }) => type === "text" && values.length).map(({ name }) => name);
  const ordered = [...names.filter((name) => name === kind), ...names.filter((name) => name !== kind)];
  const cells = ordered.map((name) => [name, item.attributes[name]]);
  return cells.filter(([, cell]) => typeof cell === "string" && cell && cell.length <= LONGEST);
}

/** Returns each item's change of rank since `before`, a list of ids, or "new"; and the ids that are gone. */
export function compared(before, now) {
  const moves = new Map(now.map((id, rank) => [id, before.includes(id) ? before.indexOf(id) - rank : "new"]));
  return { moves, gone: before.filter((id) => !now.includes(id)) };
}

/** Shows what changed; nothing for a first list. */
export function showChanges(before, { moves, gone }, titles) {
  const [line, list] = [byId("changes"), byId("gone")];
  list.hidden = !before || !gone.length;
  if (!before) return void (line.textContent = "");
  const values = [...moves.values()];
  const count = (test, word) => [values.filter(test).length, word];
  const counts = [
    count((move) => move === "new", "new"),
    count((move) => move > 0, "moved up"),
    count((move) => move < 0, "moved down"),
    [gone.length, "gone"],
  ];
  const said = counts.filter(([number]) => number).map(([number, word]) => `${number} ${word}`);
  line.textContent = said.length ? `Since the last list: ${joined(said)}.` : "Since the last list nothing changed.";
  byId("gone-titles").replaceChildren(...gone.map((id) => element("li", {}, titles.get(id) ?? id)));
}

/**
 * Shows a list. `context` has `columns`, `moves` (null for a first list), `certified`, `best` (of the scores), and what
 * the buttons do: `prefer(kind, item, byKeyboard)`, `choose(item)`, `explain(item, panel)`. `kindOf(item)` is what the
 * profile says of it.
 */
export function showList(items, context) {
  const list = byId("list");
  const places = new Map([...rows].map(([id, row]) => [id, row.getBoundingClientRect().top]));
  const focused = document.activeElement?.closest("#list > li");
  const focus = focused && {
    place: [...list.children].indexOf(focused),
    action: document.activeElement.dataset.action,
  };
  const shown = items.map((item, rank) => filled(item, rank, context));
  const kept = new Set(items.map(({ item_id: id }) => id));
  for (const id of [...rows.keys()]) if (!kept.has(id)) rows.delete(id);
  if (shown.some((row, n) => row !== list.children[n]) || shown.length !== list.children.length) {
    const active = document.activeElement;
    list.replaceChildren(...shown);
    if (list.contains(active)) active.focus({ preventScroll: true });
  }
  if (focus && !list.contains(document.activeElement)) {
    const next = shown[Math.min(focus.place, shown.length - 1)];
    (next?.querySelector(`[data-action=${focus.action}]`) ?? byId("list-title")).focus();
  }
  move(places);
  for (const [id, row] of rows) {
    const why = row.querySelector(".why");
    if (!why.hidden)
      context.explain(
        items.find((item) => item.item_id === id),
        why,
      );
  }
}

/** Lets rows glide from where they were. */
function move(places) {
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  for (const [id, row] of rows) {
    const by = places.has(id) ? places.get(id) - row.getBoundingClientRect().top : 0;
    if (by)
      row.animate([{ transform: `translateY(${by}px)` }, { transform: "none" }], { duration: 300, easing: "ease-out" });
    if (!places.has(id)) row.animate([{ opacity: 0 }, { opacity: 1 }], { duration: 300 });
  }
}

/** Returns the row of an item, with its rank, score and change. */
function filled(item, rank, context) {
  const about = JSON.stringify([item.title, item.attributes]);
  if (rows.get(item.item_id)?.dataset.about !== about) rows.set(item.item_id, made(item, context));
  const row = rows.get(item.item_id);
  row.dataset.about = about;
  const part = (name) => row.querySelector(`.${name}`);
  part("rank").textContent = rank + 1;
  part("score").replaceChildren(hidden("score "), item.score.toFixed(2).replace("-", "−"));
  part("meter").style.setProperty("--share", Math.exp(item.score - context.best));
  const change = context.moves?.get(item.item_id) ?? 0;
  const up = change > 0;
  part("change").className = `change ${change === "new" ? "new" : up ? "up" : change ? "down" : ""}`;
  part("change").replaceChildren(
    ...(change === "new"
      ? ["new"]
      : change
        ? [icon(up ? "up" : "down"), String(Math.abs(change)), hidden(up ? " up" : " down")]
        : []),
  );
  part("certified").hidden = rank >= context.certified;
  const kind = context.kindOf(item);
  for (const of of ["more_of", "less_of"])
    row.querySelector(`[data-action=${of}]`).setAttribute("aria-pressed", String(kind === of));
  return row;
}

function made(item, context) {
  const said = facts(item, context.columns);
  const kind = item.attributes[kindColumn(context.columns)];
  const tile = element("span", { class: "tile", "aria-hidden": "true" }, icon(drawingOf(kind)));
  tile.style.setProperty("--hue", hue(String(said[1]?.[1] ?? said[0]?.[1] ?? item.title)));
  const words = said
    .slice(0, FACTS)
    .map(([name, cell]) => element("span", { class: name === kindColumn(context.columns) ? "kind" : null }, cell));
  const sure = element(
    "span",
    { class: "certified", title: "Certified: no other eligible item is more likely" },
    icon("sure"),
    hidden("certified"),
  );
  const why = element("div", {
    class: "why",
    id: `why-${(numbers += 1)}`,
    role: "group",
    "aria-label": `Why: ${item.title}`,
    hidden: true,
  });
  const head = element(
    "div",
    { class: "head" },
    element("span", { class: "rank" }),
    tile,
    element(
      "div",
      { class: "what" },
      element("h3", {}, item.title, " ", sure),
      element("p", { class: "facts" }, ...words),
    ),
    element("span", { class: "change" }),
    element(
      "div",
      { class: "scored", title: "Log-probability" },
      element("span", { class: "score" }),
      element("span", { class: "meter", "aria-hidden": "true" }),
    ),
  );
  return element("li", { "data-item": item.item_id }, head, actions(item, context, why), why);
}

function actions(item, context, why) {
  const act = (action, drawn, [word, rest], onclick, more = {}) => {
    const text = element("span", {}, word, element("span", { class: "rest" }, rest)); // narrow screens show the word alone
    return button(drawn, text, onclick, { about: item.title, "data-action": action, ...more });
  };
  const openWhy = (event) => {
    why.hidden = !why.hidden;
    event.currentTarget.setAttribute("aria-expanded", String(!why.hidden));
    if (!why.hidden) context.explain(item, why);
  };
  const prefer = (kind) => (event) => context.prefer(kind, item, event.detail === 0); // no click but a key
  return element(
    "div",
    { class: "actions" },
    act("more_of", "plus", ["More", " of this"], prefer("more_of"), { "aria-pressed": "false" }),
    act("less_of", "minus", ["Less", " of this"], prefer("less_of"), { "aria-pressed": "false" }),
    act("blocked", "never", ["Never", " again"], prefer("blocked")),
    act("why", "why", ["Why", ""], openWhy, { "aria-expanded": "false", "aria-controls": why.id }),
    act("choose", "choose", ["Add", " to history"], () => context.choose(item)),
  );
}

/** Returns the name of the icon for a kind of items. */
function drawingOf(kind) {
  const word = String(kind ?? "")
    .toLowerCase()
    .replace(/s$/, "");
  return Object.keys(DRAWN).find((name) => DRAWN[name].split(" ").includes(word)) ?? "item";
}

/** Returns degrees 0..359 that are always the same for a text. */
function hue(text) {
  let sum = 0;
  for (const character of text) sum = (sum * 31 + character.codePointAt(0)) % 360;
  return sum;
}
