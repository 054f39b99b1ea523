// What was understood of the prompt. Each part can be switched off: a rule becomes taste, taste is left out.

import { button, byId, element, hidden, rendered } from "./elements.js";

const RULES = { only: "only", not: "never" };
const TASTES = { not: "rather not", less: "less", unsure: "not understood" };

let parts = []; // as the whole prompt was understood
let off = new Set(); // numbers of parts

/** Forgets the parts of the prompt before. */
export function hearPrompt() {
  parts = [];
  off = new Set();
}

/** Returns the field `rules` of a request. */
export const activeRules = () => (off.size ? `off:${[...off].sort((one, other) => one - other).join(",")}` : "on");

function toggle(numbers, changed) {
  for (const number of numbers) if (!off.delete(number)) off.add(number);
  return changed();
}

/** Shows the parts that an answer says were understood; nothing without a prompt. */
export function showUnderstood(understood, changed) {
  byId("understood").hidden = !understood;
  byId("not-english").hidden = understood?.english !== false;
  if (!understood) return;
  if (!off.size) parts = understood.parts;
  byId("understood-text").textContent = understood.text
    ? `Understood: ${understood.text}`
    : "No part of it was understood.";
  const chips = parts.map((part) => {
    const { number } = part;
    const kind = part.rule ? RULES[part.kind] : (TASTES[part.kind] ?? "taste");
    const state = !off.has(number) ? "" : part.rule ? "taste only" : "left out";
    const label = element("span", {}, element("b", {}, kind), ` ${part.text}`);
    const chip = button(null, label, () => toggle([number], changed), {
      class: `chip part ${part.rule ? "rule" : ""}`,
      "aria-pressed": String(!off.has(number)),
      title: `From “${part.words}”. Press to switch it ${state ? "on" : "off"}.`,
    });
    chip.append(state ? element("span", { class: "note" }, state) : hidden(part.rule ? ", a rule" : ""));
    return element("li", {}, chip);
  });
  const label = element("li", { class: "label", "aria-hidden": "true" }, "Understood");
  rendered(byId("parts"), [label, ...chips], byId("prompt"));
}

/** Says how many items the rules leave if they are too few, and offers to treat some as taste. */
export function showShortage(shortage, changed) {
  const box = byId("shortage");
  box.hidden = !shortage;
  if (!shortage) return;
  const named = (number) => `“${parts.find((part) => part.number === Number(number)).words}”`;
  const many = (items) => (items === 1 ? "1 item passes" : `${items.toLocaleString()} items pass`);
  const without = Object.entries(shortage.without).map(([number, items]) => `without ${named(number)} ${many(items)}`);
  const line = element("p", {}, `Only ${many(shortage.eligible)} the rules of the prompt; ${without.join(", ")}.`);
  const relax = `Treat ${shortage.loosened.map(named).join(", ")} as taste`;
  const loosen = button(null, relax, () => toggle(shortage.loosened, changed));
  box.replaceChildren(line, ...(shortage.loosened.length ? [loosen] : []));
}
