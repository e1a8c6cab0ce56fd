/** The panels that stand behind tabs: race control, battles, overtakes, pit stops, classification, radio, what locations say and what is missing. */
import { battles, undercuts } from "./panels/battles.js";
import { estimatedLaps, lineCrossings, pitPasses, positionChecks } from "./panels/by_location.js";
import { championship, qualifyingClassification, raceClassification } from "./panels/classification.js";
import { overtakes } from "./panels/overtakes.js";
import { pitStops } from "./panels/pit_stops.js";
import { raceControl } from "./panels/race_control.js";
import { completeness, startingGrid, teamRadio } from "./panels/session.js";
import { TablePanel } from "./panels/table.js";
import { isQualifying, isRace } from "./store.js";
import { showTab, wireTabs } from "./tabs.js";

const isNoQualifying = (store) => !isQualifying(store);
const has = (channel) => (store) => store.rows(channel).size > 0;

/** Each tab, its panels, and when it and each panel behind the first is shown. */
const TABS = Object.freeze([
  { id: "race-control", title: "Race control", parts: [{ panel: raceControl }] },
  { id: "battles", title: "Battles", isShown: isNoQualifying, parts: [{ panel: battles }, { panel: undercuts }] },
  { id: "overtakes", title: "Overtakes", isShown: isNoQualifying, parts: [{ panel: overtakes }] },
  { id: "pit-stops", title: "Pit stops", isShown: (store) => isRace(store) || store.rows("pit_stops").size > 0 || isNoQualifying(store), parts: [{ panel: pitStops }] },
  {
    id: "classification", title: "Classification", parts: [
      { panel: raceClassification, isShown: isNoQualifying },
      { panel: qualifyingClassification, isShown: isQualifying },
      { panel: championship, isShown: has("championship") },
    ],
  },
  { id: "radio", title: "Radio", isShown: has("team_radio"), parts: [{ panel: teamRadio }] },
  {
    id: "location", title: "By location", isShown: has("line_crossings"), parts: [
      { panel: positionChecks, isShown: isNoQualifying },
      { panel: estimatedLaps },
      { panel: pitPasses, isShown: has("pit_passes") },
      { panel: lineCrossings },
    ],
  },
  { id: "data", title: "Data", parts: [{ panel: completeness }, { panel: startingGrid, isShown: has("starting_grid") }] },
]);

export class Details {
  #list;
  #open;
  #current = "race-control";
  #tabs = [];

  /** @param {() => void} onOpen Called when another tab opens. */
  constructor(list, container, onExplain, onOpen) {
    this.#list = list;
    for (const { id, title, isShown, parts } of TABS) {
      const tab = Object.assign(document.createElement("button"), { type: "button", id: `tab-${id}`, textContent: title, tabIndex: id === this.#current ? 0 : -1 });
      tab.setAttribute("role", "tab");
      tab.setAttribute("aria-controls", `panel-${id}`);
      tab.setAttribute("aria-selected", String(id === this.#current));
      list.append(tab);
      const body = Object.assign(document.createElement("div"), { id: `panel-${id}`, className: "tab-panel", hidden: id !== this.#current, tabIndex: 0 });
      body.setAttribute("role", "tabpanel");
      body.setAttribute("aria-labelledby", tab.id);
      container.append(body);
      const made = parts.map(({ panel, isShown: isPartShown }, index) => {
        const section = document.createElement("section");
        if (index > 0 && parts[0].panel.title !== panel.title) section.append(Object.assign(document.createElement("h3"), { textContent: panel.title }));
        body.append(section);
        return { section, isShown: isPartShown ?? (() => true), table: new TablePanel(section, panel, onExplain) };
      });
      this.#tabs.push({ id, isShown: isShown ?? (() => true), parts: made });
    }
    this.#open = wireTabs(list, (id) => {
      this.#current = id.slice("tab-".length);
      onOpen();
    });
  }

  /** Shows what the open tab says of a store. */
  update(store) {
    for (const tab of this.#tabs) {
      showTab(this.#list, `tab-${tab.id}`, tab.isShown(store), this.#open);
      if (tab.id !== this.#current) continue;
      for (const { section, isShown, table } of tab.parts) {
        section.hidden = !isShown(store);
        if (!section.hidden) table.update(store);
      }
    }
  }
}
