import type { ComponentChildren } from "preact";
import { useRef } from "preact/hooks";
import { narrow, tab, type TabName } from "../state/view.js";
import { FaultsIcon, LatencyIcon, MessagesIcon, MicrophoneIcon, SetupIcon } from "./icons.js";

interface TabItem {
  name: TabName;
  label: string;
  icon: () => ComponentChildren;
}

const TABS: readonly TabItem[] = [
  { name: "talk", label: "Talk", icon: MicrophoneIcon },
  { name: "latency", label: "Latency", icon: LatencyIcon },
  { name: "messages", label: "Messages", icon: MessagesIcon },
  { name: "faults", label: "Faults", icon: FaultsIcon },
  { name: "setup", label: "Setup", icon: SetupIcon },
];

/** The tabs that there are now: on a wide screen the conversation is always in sight. */
export function shownTabs(): readonly TabItem[] {
  return narrow.value ? TABS : TABS.slice(1);
}

export function TabList() {
  const list = useRef<HTMLDivElement>(null);
  const tabs = shownTabs();
  const move = (to: number) => {
    const next = tabs[(to + tabs.length) % tabs.length]!;
    tab.value = next.name;
    list.current?.querySelector<HTMLElement>(`#tab-${next.name}`)?.focus();
  };
  return (
    <div
      class="tabs"
      role="tablist"
      aria-label="Views"
      ref={list}
      onKeyDown={(event) => {
        const at = tabs.findIndex(({ name }) => name === tab.value);
        const moves: Record<string, number> = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 };
        const to = moves[event.key];
        if (to === undefined) return;
        event.preventDefault();
        move(to);
      }}
    >
      {tabs.map(({ name, label, icon: Icon }) => (
        <button
          key={name}
          id={`tab-${name}`}
          type="button"
          role="tab"
          aria-selected={tab.value === name}
          aria-controls={`panel-${name}`}
          tabIndex={tab.value === name ? 0 : -1}
          onClick={() => (tab.value = name)}
        >
          {narrow.value && <Icon />}
          <span>{label}</span>
        </button>
      ))}
    </div>
  );
}

export function TabPanel({ name, children }: { name: TabName; children: ComponentChildren }) {
  return (
    <div
      id={`panel-${name}`}
      class="panel"
      data-tab={name}
      role="tabpanel"
      aria-labelledby={`tab-${name}`}
      tabIndex={0}
      hidden={tab.value !== name}
    >
      {tab.value === name && children}
    </div>
  );
}
