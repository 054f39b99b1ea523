// Elements of the page. Strings become text, never markup: titles, prompts and ids come from anybody.

export const byId = (id) => document.getElementById(id);

/** Returns a new element: attributes by name (true sets an empty one, false and null none), listeners as `onclick`. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null && value !== undefined)
      made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** Returns a drawing of the symbols in index.html, which says nothing to a screen reader. */
export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const drawing = document.createElementNS(space, "svg");
  const use = document.createElementNS(space, "use");
  use.setAttribute("href", `#icon-${name}`);
  drawing.setAttribute("class", "icon");
  drawing.setAttribute("aria-hidden", "true");
  drawing.append(use);
  return drawing;
}

/** Returns text that only screen readers read. */
export const hidden = (text) => element("span", { class: "hidden" }, text);

/** Returns a button with an icon; `about` completes its name for screen readers: "Never again: TITLE". */
export function button(drawn, text, onclick, { about = "", ...attributes } = {}) {
  const made = element("button", { type: "button", onclick, ...attributes }, drawn ? icon(drawn) : null, text);
  if (about) made.setAttribute("aria-label", `${made.textContent}: ${about}`);
  return made;
}

/** Returns a button without visible text, named by `name`. */
export function iconButton(drawn, name, onclick) {
  return element("button", { type: "button", class: "bare", "aria-label": name, title: name, onclick }, icon(drawn));
}

/** Returns a list of choices, `[value, text]` each, one of them chosen. */
export function choices(name, options, chosen, onchange) {
  const made = options.map(([value, text]) => element("option", { value, selected: value === chosen }, text));
  return element("select", { "aria-label": name, onchange: (event) => onchange(event.target.value) }, ...made);
}

/** Returns words joined for a sentence: "a, b and c". */
export function joined(words, last = "and") {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} ${last} ${words.at(-1)}`;
}

/** Renders the contents of an element anew; the focus stays at the control of the same name or place, if it was there. */
export function rendered(container, children, otherwise) {
  const controls = () => [...container.querySelectorAll("button, select")];
  const active = document.activeElement;
  const [place, name] = [controls().indexOf(active), active?.getAttribute("aria-label")];
  container.replaceChildren(...children);
  if (place < 0) return;
  const found = controls();
  const same = name ? found.find((control) => control.getAttribute("aria-label") === name) : null;
  (same ?? found[Math.min(place, found.length - 1)] ?? otherwise).focus();
}
