import { live } from "../call/live.js";
import { settings } from "../state/settings.js";
import { helpOpen, pinned, replay, tab } from "../state/view.js";
import { shownTabs } from "./tabs.js";

const FIELDS = "input, textarea, select, [contenteditable], dialog";
const PRESSABLE = "button, a, summary, [role=tab], [role=option], [role=listbox], [role=separator]";

/** The single keys: off in fields, with any modifier, and where the settings say so. */
export function watchKeys(): void {
  addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    const target = event.target as Element;
    if (!settings.value.shortcuts || target.closest(FIELDS)) return;
    if (act(event, target)) event.preventDefault();
  });
  addEventListener("keyup", (event) => {
    if (event.key === " " && settings.value.talk === "hold") live.endTalking();
  });
  addEventListener("blur", () => {
    if (settings.value.talk === "hold") live.endTalking(); // the key will come up in another window
  });
}

function act(event: KeyboardEvent, target: Element): boolean {
  switch (event.key) {
    case " ":
      if (settings.value.talk !== "hold" || replay.value || target.closest(PRESSABLE)) return false;
      if (!event.repeat) void live.beginTalking();
      return true;
    case "t":
      if (replay.value || event.repeat) return false;
      talkOrStop();
      return true;
    case "m":
      live.setMuted(!live.muted.value);
      return true;
    case "i":
      void live.interrupt();
      return true;
    case "/":
      if (tab.value !== "talk" && shownTabs().some(({ name }) => name === "talk")) tab.value = "talk";
      setTimeout(() => document.getElementById("typed")?.focus());
      return true;
    case "Escape":
      pinned.value = undefined;
      return true;
    case "?":
      helpOpen.value = true;
      return true;
    default: {
      const chosen = shownTabs()[Number(event.key) - 1];
      if (chosen) tab.value = chosen.name;
      return Boolean(chosen);
    }
  }
}

function talkOrStop(): void {
  if (settings.value.talk === "open") void live.toggleMicrophone();
  else if (live.talking.value) live.endTalking();
  else void live.beginTalking();
}
