// Filters: chips for frequent values of columns, and conditions on any column.

import { button, byId, element, iconButton, rendered } from "./elements.js";

const FEW = 12; // values of a column that has chips
const OPERATORS = {
  text: ["=", "!=", "~", "!~"],
  boolean: ["=", "!="],
  list: ["~", "!~"],
  number: [">=", "<=", "=", "!="],
  time: [">=", "<=", "=", "!="],
};
const WORDS = {
  "=": "is",
  "!=": "is not",
  "~": "contains",
  "!~": "does not contain",
  ">=": "at least",
  "<=": "at most",
};

/** Shows chips for the values of `columns`, those of the column `first` always; `changed` gets the conditions as text. */
export function startFilters(columns, first, changed) {
  const chosen = new Map(); // column -> Set of values, of which an item has one
  const written = []; // further conditions, {column, operator, value}

  const tell = () => {
    const byChips = [...chosen]
      .filter(([, values]) => values.size)
      .map(([name, values]) => {
        const { type } = columns.find((column) => column.name === name);
        return `${name}${type === "boolean" ? "=" : "~"}${[...values].join(",")}`; // ~ is also for cells of several values
      });
    const conditions = [...byChips, ...written.map(({ column, operator, value }) => `${column}${operator}${value}`)];
    byId("filter-count").textContent = conditions.length ? String(conditions.length) : "";
    byId("clear-filters").hidden = !conditions.length;
    showWritten();
    changed(conditions);
  };

  function showWritten() {
    const rows = written.map((one, place) => {
      const text = `${one.column.replaceAll("_", " ")} ${WORDS[one.operator]} ${one.value}`;
      const remove = iconButton("close", `Remove: ${text}`, () => (written.splice(place, 1), tell()));
      return element("li", { class: "chip" }, text, remove);
    });
    rendered(byId("conditions"), rows, byId("more-filters").firstElementChild);
  }

  function chips(column) {
    chosen.set(column.name, new Set());
    // A comma would end a value: such ones are left to the taste profile.
    return column.values
      .filter(({ value }) => !String(value).includes(","))
      .map(({ value, items }) => {
        const toggle = (event) => {
          const values = chosen.get(column.name);
          if (!values.delete(value)) values.add(value);
          event.currentTarget.setAttribute("aria-pressed", String(values.has(value)));
          tell();
        };
        const text = column.type === "boolean" ? { true: "yes", false: "no" }[value] : String(value);
        return button(null, text, toggle, { class: "chip", "aria-pressed": "false", title: `${items} items` });
      });
  }

  function group(column) {
    const name = column.name.replaceAll("_", " ");
    const label = element("span", { class: "label", "aria-hidden": "true" }, name);
    return element("div", { class: "chips", role: "group", "aria-label": name }, label, ...chips(column));
  }

  const few = columns.filter(
    ({ values, type }) => values.length && values.length <= FEW && ["text", "boolean", "list"].includes(type),
  );
  const shown = few.find(({ name }) => name === first) ?? few[0];
  byId("first-chips").replaceChildren(...(shown ? [group(shown)] : []));
  byId("more-chips").replaceChildren(...few.filter((column) => column !== shown).map(group));
  startConditions(columns, (condition) => {
    written.push(condition);
    tell();
  });
  byId("clear-filters").onclick = () => {
    chosen.forEach((values) => values.clear());
    written.length = 0;
    byId("filters")
      .querySelectorAll("[aria-pressed]")
      .forEach((chip) => chip.setAttribute("aria-pressed", "false"));
    tell();
  };
}

/** Makes the form for a condition on any column. */
function startConditions(columns, add) {
  const [column, operator, value, form] = [
    "condition-column",
    "condition-operator",
    "condition-value",
    "condition",
  ].map(byId);
  column.replaceChildren(...columns.map(({ name }) => element("option", { value: name }, name.replaceAll("_", " "))));
  column.onchange = () => {
    const { type, values } = columns.find(({ name }) => name === column.value);
    const operators = OPERATORS[type] ?? OPERATORS.text;
    operator.replaceChildren(...operators.map((one) => element("option", { value: one }, WORDS[one])));
    byId("condition-values").replaceChildren(...values.map((one) => element("option", { value: String(one.value) })));
  };
  if (columns.length) column.onchange();
  form.onsubmit = (event) => {
    event.preventDefault();
    if (!value.value.trim()) return void value.focus();
    add({ column: column.value, operator: operator.value, value: value.value.trim() });
    value.value = "";
  };
}
