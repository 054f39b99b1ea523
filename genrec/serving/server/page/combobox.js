// A field with suggestions, by the ARIA pattern "editable combobox with list autocomplete".

import { element } from "./elements.js";

const WAIT = 150; // milliseconds after a key before suggestions are fetched

/**
 * Makes an input with a list below it suggest options.
 *
 * `suggest(text, signal)` returns options `{text, note, ...}`; `choose(option)` gets the chosen one. Where `free` is
 * given, Enter without an option calls it with the text.
 */
export function combobox(input, list, status, suggest, choose, free = null) {
  let options = [];
  let listed = ""; // the text that the options are for
  let active = -1;
  let timer = 0;
  let running = new AbortController();

  const stale = () => listed !== input.value.trim();

  function close() {
    list.hidden = true;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
    active = -1;
  }

  function stop() {
    clearTimeout(timer);
    running.abort();
    close();
  }

  function activate(place) {
    active = place;
    [...list.children].forEach((child, n) => child.setAttribute("aria-selected", String(n === active)));
    if (active < 0) return input.removeAttribute("aria-activedescendant");
    input.setAttribute("aria-activedescendant", list.children[active].id);
    list.children[active].scrollIntoView({ block: "nearest" });
  }

  function take(option) {
    stop();
    input.value = "";
    status.textContent = "";
    choose(option);
  }

  function show(found) {
    options = found;
    list.replaceChildren(
      ...options.map((option, n) => {
        const children = [element("span", {}, option.text)];
        if (option.note) children.push(element("span", { class: "note" }, option.note));
        const row = { role: "option", id: `${list.id}-${n}`, "aria-selected": "false" };
        const keepFocus = (event) => event.preventDefault(); // else the list would close before the click
        return element("li", { ...row, onmousedown: keepFocus, onclick: () => take(option) }, ...children);
      }),
    );
    list.hidden = !options.length;
    input.setAttribute("aria-expanded", String(!list.hidden));
    activate(-1);
    const none = input.value.trim() ? "nothing found" : "";
    status.textContent = options.length ? `${options.length} suggestions` : none;
  }

  async function refresh() {
    running.abort();
    running = new AbortController();
    const { signal } = running;
    const text = input.value.trim();
    try {
      const found = await suggest(text, signal);
      if (signal.aborted || document.activeElement !== input) return;
      listed = text;
      show(found);
    } catch (problem) {
      if (problem.name !== "AbortError") status.textContent = problem.message;
    }
  }

  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(refresh, WAIT);
  });
  input.addEventListener("focus", () => (input.value ? undefined : refresh()));
  input.addEventListener("blur", stop);
  input.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (list.hidden || stale()) return void refresh();
      const step = event.key === "ArrowDown" ? 1 : -1;
      activate(((active + step + 1 + options.length + 1) % (options.length + 1)) - 1);
    } else if (event.key === "Enter") {
      event.preventDefault();
      if (active >= 0 && !stale()) return take(options[active]);
      if (free && input.value.trim()) return take(free(input.value.trim()));
      if (!list.hidden && !stale()) take(options[0]);
      else refresh();
    } else if (event.key === "Escape" && !list.hidden) {
      event.preventDefault();
      close();
    }
  });
}
