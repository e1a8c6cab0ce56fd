/**
 * A panel made of rows: what it shows is a pure function of the store, and this file writes it into the page, touching only rows that changed.
 *
 * A panel is `{id, title, caption, empty, columns, rows(store), summary?(store)}`. A row is `{id, fact, tone, cells}`, where `fact` is the
 * fact it tells; a cell is text, or `{text, spoken, tone, colour, href, letter}`.
 */

/** Rows written of one panel; older ones stay in the API. */
export const ROWS_MAX = 200;

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

export class TablePanel {
  #panel;
  #body;
  #summary;
  #empty;
  #table;
  #written = new Map();
  #summarySaid = "";

  /** @param {(factId: string) => void} onExplain Called with the fact of a row whose first cell is pressed. */
  constructor(container, panel, onExplain) {
    this.#panel = panel;
    container.classList.add("table-panel");
    this.#summary = element("p", "summary");
    this.#table = element("table", `rows rows-${panel.id}`);
    const head = element("tr");
    for (const column of panel.columns) {
      const cell = element("th", column.className, column.title ? undefined : column.label);
      cell.scope = "col";
      if (column.title) cell.append(Object.assign(element("abbr", "", column.label), { title: column.title }));
      head.append(cell);
    }
    const header = element("thead");
    header.append(head);
    this.#body = element("tbody");
    this.#table.append(element("caption", "hidden", panel.caption), header, this.#body);
    this.#empty = element("p", "empty", panel.empty);
    container.append(this.#summary, this.#table, this.#empty);
    this.#body.addEventListener("click", (event) => {
      const fact = event.target.closest("button.why")?.closest("tr").dataset.fact;
      if (fact) onExplain(fact);
    });
    this.#body.addEventListener("keydown", (event) => this.#move(event));
  }

  update(store) {
    const rows = this.#panel.rows(store).slice(0, ROWS_MAX);
    this.#table.hidden = rows.length === 0;
    this.#empty.hidden = rows.length > 0;
    this.#summarise(this.#panel.summary?.(store) ?? []);
    const kept = new Map();
    let after = null;
    for (const row of rows) {
      const said = JSON.stringify(row);
      let written = this.#written.get(row.id);
      if (written?.said !== said) {
        const node = this.#write(row);
        const hadFocus = written?.node.contains(document.activeElement);
        written?.node.replaceWith(node);
        if (hadFocus) node.querySelector("button.why")?.focus({ preventScroll: true });
        written = { said, node };
      }
      kept.set(row.id, written);
      const place = after ? after.nextSibling : this.#body.firstChild;
      if (place !== written.node) this.#body.insertBefore(written.node, place);
      after = written.node;
    }
    for (const [id, written] of this.#written) if (!kept.has(id)) written.node.remove();
    this.#written = kept;
    this.#focusable();
  }

  /** One row is reached with Tab, the others with the arrows: the focused one, or the first. */
  #focusable() {
    const buttons = [...this.#body.querySelectorAll("button.why")];
    const current = buttons.includes(document.activeElement) ? document.activeElement : buttons[0];
    for (const button of buttons) if (button.tabIndex !== (button === current ? 0 : -1)) button.tabIndex = button === current ? 0 : -1;
  }

  #move(event) {
    const buttons = [...this.#body.querySelectorAll("button.why")];
    const at = buttons.indexOf(event.target);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: buttons.length - 1 }[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    buttons[Math.max(0, Math.min(buttons.length - 1, to))].focus();
    this.#focusable();
  }

  #summarise(chips) {
    const said = JSON.stringify(chips);
    if (said === this.#summarySaid) return;
    this.#summarySaid = said;
    this.#summary.hidden = chips.length === 0;
    this.#summary.replaceChildren(...chips.map(({ label, text, tone }) => {
      const chip = element("span", "chip", undefined);
      chip.dataset.tone = tone ?? "";
      chip.append(element("span", "chip-label", `${label} `), element("strong", "", text));
      return chip;
    }));
  }

  #write(row) {
    const node = element("tr");
    node.dataset.id = String(row.id);
    node.dataset.tone = row.tone ?? "";
    if (row.fact) node.dataset.fact = row.fact;
    row.cells.forEach((cell, index) => {
      const content = typeof cell === "string" ? { text: cell } : cell;
      const made = element(index === 0 ? "th" : "td", this.#panel.columns[index].className);
      if (index === 0) made.scope = "row";
      made.dataset.tone = content.tone ?? "";
      made.append(...this.#content(content, index === 0 && row.fact));
      node.append(made);
    });
    return node;
  }

  #content({ text, spoken, colour, href, letter, blocks }, isKey) {
    const parts = [];
    if (colour) {
      const bar = element("span", "team-bar");
      bar.style.backgroundColor = colour;
      parts.push(bar);
    }
    if (letter) {
      const ring = element("span", `tyre tyre-${letter[1]}`, letter[0]);
      ring.setAttribute("aria-hidden", "true");
      parts.push(ring);
    }
    if (blocks) parts.push(segmentBlocks(blocks));
    if (isKey) {
      const button = element("button", "why", text);
      button.type = "button";
      button.title = "Show the samples this was derived from";
      parts.push(button);
    } else if (href) {
      const link = element("a", "", text);
      Object.assign(link, { href, target: "_blank", rel: "noopener noreferrer" });
      parts.push(link);
    } else {
      parts.push(element("span", "", text));
    }
    if (spoken) parts.push(element("span", "hidden", ` ${spoken}`));
    return parts;
  }
}

/** Blocks of mini-sectors, one a code, and what they say in words. */
export function segmentBlocks({ codes, words }) {
  const group = element("span", "segments");
  group.setAttribute("role", "img");
  group.setAttribute("aria-label", words);
  for (const code of codes) group.append(element("span", `segment segment-${code}`));
  return group;
}
