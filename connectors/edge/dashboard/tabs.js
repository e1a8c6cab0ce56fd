/** Tabs as the ARIA practices have them: one is reached with Tab, the others with the arrows, Home and End. */

/** Wires the tabs of a list; `onOpen` is called with the id of a tab that opens. @returns {(id: string) => void} Opens a tab. */
export function wireTabs(list, onOpen) {
  const shown = () => [...list.querySelectorAll("[role=tab]")].filter((tab) => !tab.hidden);
  const open = (tab) => {
    for (const other of list.querySelectorAll("[role=tab]")) {
      const isOpen = other === tab;
      other.setAttribute("aria-selected", String(isOpen));
      other.tabIndex = isOpen ? 0 : -1;
      document.getElementById(other.getAttribute("aria-controls")).hidden = !isOpen;
    }
    tab.scrollIntoView({ block: "nearest", inline: "nearest" });
    onOpen(tab.id);
  };
  list.addEventListener("click", (event) => {
    const tab = event.target.closest("[role=tab]");
    if (tab) open(tab);
  });
  list.addEventListener("keydown", (event) => {
    const tabs = shown();
    const at = tabs.indexOf(event.target);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    const next = tabs[(to + tabs.length) % tabs.length];
    open(next);
    next.focus();
  });
  return (id) => open(document.getElementById(id));
}

/** Shows or hides a tab; one that is open and goes makes room for the first that stays. */
export function showTab(list, id, isShown, open) {
  const tab = document.getElementById(id);
  if (tab.hidden === !isShown) return;
  tab.hidden = !isShown;
  if (!isShown && tab.getAttribute("aria-selected") === "true") open(list.querySelector("[role=tab]:not([hidden])").id);
}
