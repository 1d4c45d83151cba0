import { computed, signal } from "@preact/signals";
import { live } from "../call/live.js";
import type { ReplayPlayer } from "../replay/player.js";

/** What is shown beside the conversation; on a phone the conversation is one of them. */
export type TabName = "talk" | "latency" | "messages" | "faults" | "setup";

export const tab = signal<TabName>("latency");
export const helpOpen = signal(false);

/** The replay that is shown in place of the page's own calls. */
export const replay = signal<ReplayPlayer | undefined>(undefined);
export const session = computed(() => replay.value?.session.value ?? live.session);

/** The turn under the pointer or the focus, and the one that was clicked: utterance or response. */
export const pointed = signal<string | undefined>(undefined);
export const pinned = signal<string | undefined>(undefined);

const NOTHING: ReadonlySet<string> = new Set();

/** The utterance and the response of the turn that is pointed at: they are lit up wherever they are. */
export const lit = computed<ReadonlySet<string>>(() => {
  const id = pointed.value ?? pinned.value;
  if (!id) return NOTHING;
  const partner = session.value.partners.value.get(id);
  return new Set(partner ? [id, partner] : [id]);
});

export function pin(id: string): void {
  pinned.value = pinned.value === id ? undefined : id;
}

/** What makes a part of the page point at a turn. */
export function pointing(id: string | undefined) {
  if (!id) return {};
  const leave = () => {
    if (pointed.value === id) pointed.value = undefined;
  };
  return {
    onPointerEnter: (event: PointerEvent) => {
      if (event.pointerType === "mouse") pointed.value = id;
    },
    onPointerLeave: leave,
    onFocusIn: () => {
      pointed.value = id;
    },
    onFocusOut: leave,
  };
}

/** A moment of the shown clock as the time of day. */
export function timeOfDay(at: number): string {
  const origin = replay.value?.recording.header.timeOrigin ?? performance.timeOrigin;
  return new Date(origin + at).toLocaleTimeString([], { hour12: false });
}

/** The width is a phone's, or the height a phone's on its side. */
const wide = matchMedia("(min-width: 60rem), (min-width: 40rem) and (min-height: 43rem)");
export const narrow = signal(!wide.matches);
wide.addEventListener("change", () => {
  narrow.value = !wide.matches;
  if (!narrow.value && tab.value === "talk") tab.value = "latency";
});
if (narrow.value) tab.value = "talk";

const still = matchMedia("(prefers-reduced-motion: reduce)");
export const calm = signal(still.matches);
still.addEventListener("change", () => (calm.value = still.matches));

const dark = matchMedia("(prefers-color-scheme: dark)");
export const systemIsDark = signal(dark.matches);
dark.addEventListener("change", () => (systemIsDark.value = dark.matches));

/** Changes once a second. */
export const now = signal(performance.now());
setInterval(() => (now.value = performance.now()), 1000);

/** The notices whose time has come. */
export const notices = computed(() => {
  const all = session.value.notices.value;
  if (all.every(({ from }) => from === undefined)) return all;
  const time = replay.value?.position.value ?? now.value;
  return all.filter(({ from = -Infinity }) => from <= time);
});
