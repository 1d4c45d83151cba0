import type { ComponentChildren } from "preact";
import { live } from "../call/live.js";
import { dropSocket, halfOpen, jitterMs, swallow } from "../faults/faulty_socket.js";

const JITTER_MS = 300;

/** Buttons that break the call, to see what becomes of it. */
export function Faults() {
  const connected = live.session.state.value === "connected";
  const call = live.call.value;
  const provoke = call?.info?.features.includes("provoke") ?? false;
  const needsCall = connected ? "" : "There is no call: press Talk first.";
  const needsGateway = needsCall || (provoke ? "" : "This gateway does not offer it: it does in development only.");
  return (
    <>
      <p class="faint">Break something, and watch the waveform’s lane, the messages and the conversation.</p>
      <ul class="faults">
        <Fault
          name="Drop the socket"
          what="The connection is gone without a word, as in a tunnel. The call comes back and resumes."
          obstacle={needsCall}
          onPress={dropSocket}
        />
        <Fault
          name="Half-open"
          what="The socket looks open, but nothing comes through in either direction: only the unanswered ping tells."
          obstacle={needsCall}
          active={halfOpen.value && "Nothing comes through."}
          onPress={swallow}
        />
        <Fault
          name={jitterMs.value ? "End the jitter" : `${JITTER_MS} ms of jitter`}
          what={`Every message is held up by 0 to ${JITTER_MS} ms, both ways, in order.`}
          active={jitterMs.value > 0 && "Messages are held up."}
          onPress={() => (jitterMs.value = jitterMs.value ? 0 : JITTER_MS)}
        />
        <Fault
          name="Expire the token"
          what="The gateway takes the token for expired: the call needs another one."
          obstacle={needsGateway}
          onPress={() => call?.provoke("token_expiry")}
        />
        <Fault
          name="Force a rotation"
          what="The gateway renews its connection to the model. What is said meanwhile waits."
          obstacle={needsGateway}
          onPress={() => call?.provoke("rotation")}
        />
        <Fault
          name="Suspend audio"
          what="The audio context stands still, as on a phone that takes a call. The microphone and the answer stop."
          obstacle={call?.sound ? "" : "There is no audio: press Talk first."}
          onPress={() => void call?.sound?.context.suspend()}
        >
          <button type="button" disabled={!call?.sound} onClick={() => void live.startAudio()}>
            Resume audio
          </button>
        </Fault>
      </ul>
    </>
  );
}

interface FaultProps {
  name: string;
  what: string;
  /** Why it cannot be had now, as a sentence. */
  obstacle?: string;
  active?: string | false;
  onPress(): void;
  children?: ComponentChildren;
}

function Fault({ name, what, obstacle = "", active, onPress, children }: FaultProps) {
  const id = `fault-${name.replace(/\W+/g, "-").toLowerCase()}`;
  return (
    <li>
      <div class="actions">
        <button type="button" disabled={Boolean(obstacle)} aria-describedby={id} onClick={onPress}>
          {name}
        </button>
        {children}
      </div>
      <p id={id}>
        {what} {obstacle && <strong>{obstacle}</strong>}
        {active && <strong>{active}</strong>}
      </p>
    </li>
  );
}
