import { checks, hearing, levelOfCheck, running, runChecks, type Check } from "../call/preflight.js";

const WORDS: Record<Check["state"], string> = {
  running: "…",
  ok: "Good",
  warn: "Look",
  bad: "Trouble",
  skipped: "Left out",
};

/** Tries everything that a call needs, and says what to do about what is not there. */
export function Preflight() {
  return (
    <fieldset>
      <legend>Pre-flight check</legend>
      <p>It listens for some seconds and plays a tone. Nothing that it hears is sent.</p>
      <div class="actions">
        <button type="button" class="primary" disabled={running.value} onClick={() => void runChecks()}>
          {checks.value.length ? "Check again" : "Check"}
        </button>
      </div>
      {checks.value.length > 0 && (
        <ol class="checks">
          {checks.value.map((check) => (
            <li key={check.name} data-state={check.state}>
              <b>{WORDS[check.state]}</b>
              <span>
                {check.name}: {check.words}
              </span>
            </li>
          ))}
        </ol>
      )}
      {levelOfCheck.value !== undefined && <meter aria-label="What the microphone hears" value={levelOfCheck.value} />}
      {hearing.value && (
        <div class="actions" role="group" aria-label="Did you hear the tone?">
          <span>Did you hear the tone?</span>
          <button type="button" onClick={() => hearing.value?.(true)}>
            Yes
          </button>
          <button type="button" onClick={() => hearing.value?.(false)}>
            No
          </button>
        </div>
      )}
      <p class="unseen" role="status">
        {checks.value.at(-1)?.words}
      </p>
    </fieldset>
  );
}
