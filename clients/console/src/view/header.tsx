import { useSignal, useSignalEffect } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { about } from "../call/about.js";
import { live } from "../call/live.js";
import { told } from "../call/files.js";
import { change, settings, type Theme } from "../state/settings.js";
import { situation } from "../state/situation.js";
import { helpOpen, narrow, now, replay, session, systemIsDark } from "../state/view.js";
import { MoonIcon, SunIcon } from "./icons.js";

export function Header() {
  const { kind, words } = situation.value;
  return (
    <header>
      <div class="brand">
        <h1>Antiphon</h1>
        <p id="about" title={about.value.name}>
          {about.value.words}
        </p>
      </div>
      <p id="state" data-state={kind}>
        {words}
      </p>
      {!narrow.value && <Link />}
      <div class="actions">
        {live.active.value && (
          <button type="button" onClick={() => void live.end()}>
            End
          </button>
        )}
        <ThemeButton />
        <button type="button" class="plain" aria-label="Keyboard shortcuts and help" onClick={() => (helpOpen.value = true)}>
          <span aria-hidden="true">?</span>
        </button>
      </div>
      <Status />
    </header>
  );
}

/** The round trip, and how long the token is good for. */
function Link() {
  const clock = live.clock.value;
  void now.value;
  const expiresAt = replay.value ? undefined : live.call.value?.info?.tokenExpiresAt;
  const left = expiresAt === undefined ? undefined : Math.max(0, expiresAt - Date.now());
  return (
    <p class="link faint">
      {clock && clock.rttMs > 0 && !replay.value && <span>round trip {clock.rttMs.toFixed(clock.rttMs < 10 ? 1 : 0)} ms</span>}
      {left !== undefined && live.active.value && <span>token {minutes(left)}</span>}
    </p>
  );
}

function minutes(ms: number): string {
  const total = Math.floor(ms / 1000);
  const [hours, rest] = [Math.floor(total / 3600), Math.floor(total / 60) % 60];
  if (hours) return `${hours} h ${rest} min`;
  return `${rest}:${String(total % 60).padStart(2, "0")}`;
}

const ANNOUNCE_MS = 1000;

/** Tells a screen reader how things stand, once a second at most. */
function Status() {
  const said = useSignal("");
  const due = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  useSignalEffect(() => {
    const notices = session.value.notices.value.filter(({ urgent }) => !urgent);
    const calls = session.value.cards.value.filter(({ state }) => state === "open");
    const texts = [
      `${situation.value.words}.`,
      told.value,
      ...notices.map(({ title, words }) => `${title}. ${words}`),
      ...calls.map(({ name }) => `The tool call ${name} waits for its answer.`),
    ];
    const next = texts.filter(Boolean).join(" ").replace("….", "…");
    clearTimeout(due.current);
    due.current = setTimeout(() => (said.value = next), ANNOUNCE_MS);
  });
  useEffect(() => () => clearTimeout(due.current), []);
  return (
    <p id="status" class="unseen" role="status">
      {said}
    </p>
  );
}

function ThemeButton() {
  const dark = isDark();
  const next: Theme = dark ? "light" : "dark";
  return (
    <button type="button" class="plain theme" aria-label={`Switch to ${next} colours`} onClick={() => change({ theme: next })}>
      {dark ? <SunIcon /> : <MoonIcon />}
    </button>
  );
}

export function isDark(): boolean {
  const { theme } = settings.value;
  return theme === "dark" || (theme === "system" && systemIsDark.value);
}
