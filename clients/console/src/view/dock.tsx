import { useSignal, useSignalEffect } from "@preact/signals";
import { useRef } from "preact/hooks";
import { live } from "../call/live.js";
import { settings } from "../state/settings.js";
import { loudness } from "../state/levels.js";
import { calm } from "../state/view.js";
import { FileIcon, HushIcon, MicrophoneIcon, MutedIcon, StopIcon } from "./icons.js";
import { NoticeList } from "./notices.js";
import { openFile } from "./drop.js";

/** What the user does: talk, type, and see what is in the way. */
export function Dock() {
  return (
    <div class="dock">
      <NoticeList />
      <PendingSettings />
      <Sending />
      <div class="buttons">
        <button
          type="button"
          class="round"
          aria-pressed={live.muted.value}
          onClick={() => live.setMuted(!live.muted.value)}
        >
          <MutedIcon />
          <span>{live.muted.value ? "Unmute" : "Mute"}</span>
        </button>
        <TalkButton />
        <p id="hold-hint" class="unseen">
          Hold it while you speak, or press it once to begin and once to end.
        </p>
        <button
          type="button"
          class="round"
          disabled={live.session.agent.value !== "speaking"}
          onClick={() => void live.interrupt()}
        >
          <HushIcon />
          <span>Interrupt</span>
        </button>
      </div>
      <TypeForm />
    </div>
  );
}

function TalkButton() {
  const button = useRef<HTMLButtonElement>(null);
  const { talk } = settings.value;
  const on = talk === "open" ? live.listening.value : live.talking.value;
  useLevel(button);

  const toggle = () => {
    if (talk === "open") void live.toggleMicrophone();
    else if (live.talking.value) live.endTalking();
    else void live.beginTalking();
  };
  const held = talk === "hold";
  const release = () => live.endTalking();
  return (
    <button
      id="talk"
      type="button"
      ref={button}
      class={on ? "talk on" : "talk"}
      aria-describedby={held ? "hold-hint" : undefined}
      onClick={(event) => {
        // Whoever cannot hold a button presses it twice, by keyboard or assistive technology.
        if (!held || event.detail === 0) toggle();
      }}
      onPointerDown={(event) => {
        if (!held || event.button !== 0) return;
        event.currentTarget.setPointerCapture(event.pointerId);
        void live.beginTalking();
      }}
      onPointerUp={held ? release : undefined}
      onPointerCancel={held ? release : undefined}
      onContextMenu={(event) => held && event.preventDefault()}
    >
      {on ? <StopIcon /> : <MicrophoneIcon />}
      <span>{on ? "Stop" : "Talk"}</span>
    </button>
  );
}

/** Lets the halo of the button follow the voice; still where motion is not wanted. */
function useLevel(button: { current: HTMLButtonElement | null }): void {
  useSignalEffect(() => {
    const { value: call } = live.call;
    if (!call || !live.active.value || calm.value) return;
    const show = (level: number) => button.current?.style.setProperty("--level", level.toFixed(3));
    let frame = requestAnimationFrame(function step() {
      show(loudness(call.levels().input));
      frame = requestAnimationFrame(step);
    });
    return () => {
      cancelAnimationFrame(frame);
      show(0);
    };
  });
}

function TypeForm() {
  const words = useSignal("");
  return (
    <form
      id="type-form"
      onSubmit={(event) => {
        event.preventDefault();
        if (!words.value.trim()) return;
        void live.sendText(words.value.trim());
        words.value = "";
      }}
    >
      <div class="field">
        <button type="button" class="plain" aria-label="Send an audio file" title="Send an audio file" onClick={openFile}>
          <FileIcon />
        </button>
        <label class="unseen" for="typed">
          Type instead of speaking
        </label>
        <input
          id="typed"
          autocomplete="off"
          maxLength={4000}
          enterkeyhint="send"
          placeholder="Or type"
          value={words}
          onInput={(event) => (words.value = event.currentTarget.value)}
        />
        <button type="submit">Send</button>
      </div>
    </form>
  );
}

function PendingSettings() {
  if (!live.pending.value.length) return null;
  return (
    <div class="notice">
      <p>What you changed under Setup counts from the next call on.</p>
      <button type="button" onClick={() => void live.restart()}>
        Start it now
      </button>
    </div>
  );
}

function Sending() {
  const sending = live.sending.value;
  if (!sending) return null;
  return (
    <div class="notice">
      <p>
        Speaking “{sending.name}”
        <progress value={sending.fraction} aria-label="How much has been sent" />
      </p>
      <button type="button" onClick={() => live.stopSending()}>
        Stop sending
      </button>
    </div>
  );
}
