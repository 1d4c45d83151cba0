import { useEffect, useRef } from "preact/hooks";
import { settings } from "../state/settings.js";
import { helpOpen } from "../state/view.js";

export const SHORTCUTS: readonly [keys: string, what: string][] = [
  ["Space", "Hold it to talk, with push to talk"],
  ["T", "Talk, or stop"],
  ["M", "Mute, or unmute"],
  ["I", "Interrupt the answer"],
  ["/", "Type"],
  ["1 to 5", "Switch between the tabs"],
  ["Esc", "Unmark the turn"],
  ["?", "This help"],
];

export function Help() {
  const dialog = useRef<HTMLDialogElement>(null);
  const open = helpOpen.value;
  useEffect(() => {
    if (open) dialog.current!.showModal();
    else dialog.current!.close();
  }, [open]);
  return (
    <dialog ref={dialog} aria-labelledby="help-title" onClose={() => (helpOpen.value = false)}>
      {open && (
        <>
          <h2 id="help-title">Help</h2>
          <p>
            Talk, type, or drop an audio file anywhere on the page. Click the time of a turn to mark that turn in the
            conversation, the waveform, the waterfall and the messages.
          </p>
          <h3>Keys</h3>
          {!settings.value.shortcuts && <p>They are switched off under Setup.</p>}
          <dl class="keys">
            {SHORTCUTS.map(([keys, what]) => (
              <div key={keys}>
                <dt>
                  <kbd>{keys}</kbd>
                </dt>
                <dd>{what}</dd>
              </div>
            ))}
          </dl>
          <p class="faint">They do nothing while you write in a field.</p>
          <form method="dialog">
            <button type="submit" class="primary">
              Close
            </button>
          </form>
        </>
      )}
    </dialog>
  );
}
