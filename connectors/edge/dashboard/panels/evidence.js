/** Why a row says what it says: the fact, and the raw samples that it was derived from, in a dialog. */

/** Fields of a fact that the dialog names before its own. */
const IDENTITY = Object.freeze(["fact_id", "known_at", "event_time", "revision", "supersedes"]);

function line(name, value) {
  const row = document.createElement("tr");
  const head = Object.assign(document.createElement("th"), { scope: "row", textContent: name.replaceAll("_", " ") });
  row.append(head, Object.assign(document.createElement("td"), { textContent: value === null ? "–" : typeof value === "object" ? JSON.stringify(value) : String(value) }));
  return row;
}

export class Evidence {
  #dialog;
  #rest;
  #asked = null;

  constructor(dialog, rest) {
    this.#dialog = dialog;
    this.#rest = rest;
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    dialog.querySelector("[data-part=close]").addEventListener("click", () => dialog.close());
  }

  /** Opens with a fact of a session. */
  async show(session, factId) {
    this.#asked = factId;
    const part = (name) => this.#dialog.querySelector(`[data-part=${name}]`);
    part("fact-id").textContent = factId;
    part("fact").replaceChildren();
    part("causes").replaceChildren();
    part("state").textContent = "Reading the ledger…";
    if (!this.#dialog.open) this.#dialog.showModal();
    try {
      const { fact, causes } = await this.#rest.explain(session, factId);
      if (this.#asked !== factId) return;
      const { causes: _, ...fields } = fact;
      const own = Object.keys(fields).filter((name) => !IDENTITY.includes(name) && name !== "fact_seq");
      part("fact").replaceChildren(...[...IDENTITY.filter((name) => name in fields), ...own].map((name) => line(name, fields[name])));
      part("causes").replaceChildren(...causes.map((cause) => {
        const item = document.createElement("li");
        item.append(
          Object.assign(document.createElement("strong"), { textContent: `${cause.collection ?? cause.kind.toLowerCase()} · record ${cause.seq}` }),
          Object.assign(document.createElement("code"), { textContent: cause.document ? JSON.stringify(cause.document) : "" }),
        );
        return item;
      }));
      part("state").textContent = `Derived from ${causes.length} ${causes.length === 1 ? "record" : "records"} of the ledger.`;
    } catch (problem) {
      if (this.#asked === factId) part("state").textContent = problem.status ? problem.message : "The server cannot be reached.";
    }
  }
}
