// The taste profile: what it says in words, and its editing.

import { aboutItem, aboutValue, columnsOf, DENIED, day, inWords, KINDS, profileInWords } from "./entries.js";
import { byId, choices, element, hidden, iconButton, rendered } from "./elements.js";
import { combobox } from "./combobox.js";

const STRENGTHS = [
  ["0.5", "half as much"],
  ["1", "as usual"],
  ["2", "twice as much"],
  ["4", "four times"],
];
const DAYS = { "for a day": 1, "for a week": 7, "for a month": 30 };
const SUGGESTED = 8; // values and titles

/** Shows the entries of a profile; `change({add, remove})` edits it. */
export function showTaste(entries, titles, change) {
  byId("taste-words").textContent = profileInWords(entries, titles) || "Nothing is known yet.";
  const rows = entries.map((entry) => row(entry, titles, change));
  rendered(byId("entries"), rows, byId("entry-about"));
  byId("forget-taste").hidden = !entries.length;
  byId("forget-learned").hidden = !entries.some((entry) => entry.source === "learned");
}

function row(entry, titles, change) {
  const words = inWords(entry.about, titles);
  // What a person changes is said by that person, whatever the log had said before.
  const edit = (fields) => change({ add: [{ ...entry, source: "said", ...fields }], remove: [] });
  const kind = choices(`${words}: kind`, KINDS, entry.kind, (value) => edit({ kind: value }));
  const details = element("div", { class: "details" }, kind);
  if (!DENIED.includes(entry.kind)) {
    const strength = String(entry.strength ?? 1);
    const known = STRENGTHS.some(([value]) => value === strength)
      ? STRENGTHS
      : [...STRENGTHS, [strength, `× ${strength}`]];
    details.append(choices(`${words}: how much`, known, strength, (value) => edit({ strength: Number(value) })));
  }
  const periods = [["", "for good"], ...Object.keys(DAYS).map((period) => [period, period])];
  if (entry.until) periods.push([entry.until, `until ${entry.until}`]);
  const until = (value) => edit({ since: day(), until: DAYS[value] ? day(DAYS[value]) : value || null });
  details.append(choices(`${words}: how long`, periods, entry.until ?? "", until));
  if (entry.source === "learned") details.append(element("span", { class: "badge" }, "learned"));
  if (entry.until && entry.until < day()) details.append(element("span", { class: "badge" }, "expired"));
  const remove = iconButton("close", `Remove: ${words}`, () => change({ add: [], remove: [entry.about] }));
  const about = element("p", { class: "about" }, words, element("span", { class: "note" }, columnsOf(entry.about)));
  return element("li", { class: "entry", "data-about": entry.about }, about, remove, details, hidden(entry.since));
}

/** Makes the field below the entries add some: of values of `columns()`, of items that `findItems` finds. */
export function startAdding(columns, findItems, change) {
  const kind = () => byId("entry-kind").value;
  byId("entry-kind").append(...KINDS.map(([value, text]) => element("option", { value }, text)));

  async function suggest(text, signal) {
    const like = (value) => String(value).toLowerCase().includes(text.toLowerCase());
    const values = new Map(); // what it is about -> option
    const add = (column, value) => {
      const about = aboutValue(column, value);
      const note = column.replaceAll("_", " ");
      if (values.size < SUGGESTED) values.set(about, { text: inWords(about, new Map()), note, about });
    };
    for (const { name, values: frequent } of columns()) {
      frequent
        .filter(({ value }) => like(value) || (value === true && like(name)))
        .forEach(({ value }) => add(name, value));
    }
    const items = text ? await findItems(text, signal) : [];
    const names = new Set(columns().map(({ name }) => name));
    for (const item of items) {
      const texts = Object.entries(item.attributes).filter(
        ([name, cell]) => names.has(name) && typeof cell === "string",
      );
      texts.filter(([, cell]) => like(cell)).forEach(([name, cell]) => add(name, cell));
    }
    const titles = items
      .slice(0, SUGGESTED)
      .map(({ item_id: id, title }) => ({ text: `“${title}”`, note: "title", about: aboutItem(id) }));
    return [...(text.includes("=") ? [written(text)] : []), ...values.values(), ...titles];
  }

  const written = (about) => ({ text: about, note: "as written", about });
  const add = ({ about }) => change({ add: [{ kind: kind(), about, since: day() }], remove: [] });
  combobox(byId("entry-about"), byId("entry-options"), byId("entry-status"), suggest, add);
}
