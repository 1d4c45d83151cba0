import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { live } from "../call/live.js";
import type { Notice } from "../state/notices.js";
import { notices } from "../state/view.js";

export function NoticeList() {
  return (
    <>
      {notices.value.map((notice) => (
        <NoticeBox key={notice.about} notice={notice} />
      ))}
    </>
  );
}

/** Only what is urgent is an alert; the rest is told by the status line of the page. */
function NoticeBox({ notice }: { notice: Notice }) {
  const { about, title, words, urgent, action } = notice;
  return (
    <div class={urgent ? "notice urgent" : "notice"} data-about={about}>
      <div role={urgent ? "alert" : undefined}>
        <h2>{title}</h2>
        <p>{words}</p>
      </div>
      {action === "token" && <TokenForm />}
      {action === "again" && (
        <button type="button" onClick={() => live.tryAgain()}>
          Try again
        </button>
      )}
      {action === "sound" && (
        <button type="button" onClick={() => void live.startAudio()}>
          Turn the sound on
        </button>
      )}
      {about !== "token" && !urgent && !action && (
        <button type="button" class="quiet" onClick={() => live.settle(about)}>
          Dismiss
        </button>
      )}
    </div>
  );
}

/** Focus goes to the form when somebody wants to talk without a token, once for each time; it never jumps else. */
let askedFor = 0;

function TokenForm() {
  const text = useSignal("");
  const field = useRef<HTMLInputElement>(null);
  const wanted = live.tokenWanted.value;
  useEffect(() => {
    if (wanted > askedFor) field.current?.focus();
    askedFor = wanted;
  }, [wanted]);
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        if (live.useToken(text.value)) text.value = "";
      }}
    >
      <label for="token">Token</label>
      <div class="field">
        <input
          id="token"
          ref={field}
          autocomplete="off"
          autocapitalize="none"
          spellcheck={false}
          placeholder="Token or link"
          value={text}
          onInput={(event) => (text.value = event.currentTarget.value)}
        />
        <button type="submit">Use it</button>
      </div>
    </form>
  );
}
