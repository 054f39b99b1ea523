// Entries of a taste profile in words; genrec/serving/profile_entries.py defines their text form.

import { joined } from "./elements.js";

export const KINDS = [
  ["more_of", "More of"],
  ["less_of", "Less of"],
  ["blocked", "Never"],
  ["likes", "Likes"],
  ["dislikes", "Dislikes"],
];
export const DENIED = ["blocked", "dislikes"];
const ORDER = ["likes", "more_of", "less_of", "dislikes", "blocked"];
const ITEM = "item";
const PLAIN = /^[^&|="\p{C}\p{Z}](?:[^&|="\p{C}\p{Zl}\p{Zp}]*[^&|="\p{C}\p{Z}])?$/u;

/** Returns the text form of a value, quoted where needed. */
const written = (value) => (PLAIN.test(value) ? value : JSON.stringify(value));

/** Returns what an entry is about: items with a value of a column. */
export const aboutValue = (column, value) => `${column}=${written(String(value))}`;

/** Returns what an entry is about: one item. */
export const aboutItem = (itemId) => aboutValue(ITEM, itemId);

/** Returns the columns and values that a text form speaks of: `[["genre", ["folk", "jazz"]]]`. */
export function parts(about) {
  return about.split(/\s+&\s+(?=[^=&|"]+=)/).map((part) => {
    const place = part.indexOf("=");
    const values = part.slice(place + 1).match(/"(?:[^"\\]|\\.)*"|[^|]+/g) ?? [];
    return [part.slice(0, place), values.map(unquoted)];
  });
}

function unquoted(value) {
  try {
    return value.startsWith('"') ? JSON.parse(value) : value;
  } catch {
    return value; // it has quotation marks of its own
  }
}

/** Returns the ids of the items that entries name. */
export function itemsOf(entries) {
  const all = entries.flatMap((entry) => parts(entry.about));
  return all.filter(([column]) => column === ITEM).flatMap(([, values]) => values);
}

/** Returns what an entry is about in words: "folk or jazz", "“Slow Mountain”"; `titles` is a map from item ids. */
export function inWords(about, titles) {
  const said = parts(about).map(([column, values]) => {
    if (column === ITEM) return values.map((id) => `“${titles.get(id) ?? id}”`).join(" or ");
    const name = column.replaceAll("_", " ");
    return values.map((value) => ({ true: name, false: `not ${name}` })[value.toLowerCase()] ?? value).join(" or ");
  });
  return said.join(" and ");
}

/** Returns the names of the columns that an entry is about, to tell a mood from an artist of the same name. */
export function columnsOf(about) {
  const names = parts(about).map(([column]) => (column === ITEM ? "title" : column.replaceAll("_", " ")));
  return names.join(", ");
}

/** Returns a whole profile in a few sentences: "Likes music. More of folk and jazz. Never “Slow Mountain”." */
export function profileInWords(entries, titles) {
  const sentences = ORDER.map((kind) => {
    const about = entries.filter((entry) => entry.kind === kind).map((entry) => inWords(entry.about, titles));
    return about.length ? `${KINDS.find(([name]) => name === kind)[1]} ${joined(about)}.` : "";
  });
  return sentences.filter(Boolean).join(" ");
}

/** Returns a day as profiles write it, some days from today. */
export function day(later = 0) {
  const date = new Date();
  date.setDate(date.getDate() + later);
  const two = (number) => String(number).padStart(2, "0");
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
}
