// Why an item is in the list: the change of its log-probability when an input is left out, as bars.

import { inWords, KINDS } from "./entries.js";
import { element } from "./elements.js";

const MOST = 6; // bars

export const signed = (number) => `${number < 0 ? "−" : "+"}${Math.abs(number).toFixed(2)}`;

/** Returns the words and bars of an answer of /v1/explain. */
export function explained(found, titles, guided) {
  const before = guided ? " These are the numbers of the model before guidance." : "";
  const sentence = found.in_words[0].toUpperCase() + found.in_words.slice(1);
  const shown = found.reasons.slice(0, MOST);
  const rest = found.reasons.length - shown.length;
  const all = [`all ${found.reasons.length} inputs at once`, found.joint_change];
  const bars = found.reasons.length > 1 ? [...shown, all] : shown;
  const widest = Math.max(...bars.map(([, change]) => Math.abs(change)), 1e-9);
  const rows = bars.map((bar) => row(bar[0], bar[1], widest, titles, bar === all));
  const scale =
    "Each bar is the change of the item’s log-probability due to one input: to the right it speaks for the item.";
  const more = rest > 0 ? ` ${rest} weaker ${rest > 1 ? "inputs are" : "input is"} not shown.` : "";
  const notes = found.reasons.length ? [element("p", { class: "note" }, scale + more + before)] : [];
  return [element("p", {}, `${sentence}.`), element("ul", { class: "bars" }, ...rows), ...notes];
}

function row(name, change, widest, titles, total) {
  const bar = element("span", { class: change < 0 ? "bar against" : "bar for" });
  bar.style.setProperty("--share", Math.abs(change) / widest);
  const track = element("span", { class: "track", "aria-hidden": "true" }, bar);
  const label = element("span", { class: "name" }, said(name, titles));
  return element(
    "li",
    { class: total ? "total" : null },
    label,
    track,
    element("span", { class: "number" }, signed(change)),
  );
}

/** Returns the name of an input for people; only entries of the profile are named in their text form. */
function said(name, titles) {
  const found = /^profile: (\w+) (.*)$/s.exec(name);
  const kind = found && KINDS.find(([value]) => value === found[1]);
  return kind ? `taste: ${kind[1].toLowerCase()} ${inWords(found[2], titles)}` : name;
}
