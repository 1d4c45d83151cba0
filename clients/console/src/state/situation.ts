import { computed } from "@preact/signals";
import { live } from "../call/live.js";
import { notices, replay, session } from "./view.js";

/** How things stand: a kind for the style, and words for people. */
export interface Situation {
  kind: "ready" | "busy" | "asking" | "connected" | "listening" | "answering" | "trouble";
  words: string;
}

export const situation = computed<Situation>(() => {
  const { kind, words } = shownSituation();
  return { kind, words: replay.value ? `Replay: ${words.toLowerCase()}` : words };
});

function shownSituation(): Situation {
  const { state, agent, microphone } = session.value;
  const heard = microphone.value.state;
  if (state.value === "reconnecting") return { kind: "trouble", words: "Reconnecting…" };
  if (!replay.value && heard === "asking") return { kind: "asking", words: "Waiting for the microphone…" };
  if (state.value === "connecting") return { kind: "busy", words: "Connecting…" };
  if (agent.value === "speaking") return { kind: "answering", words: "Answering" };
  if (state.value === "connected") {
    if (notices.value.some(({ about }) => about === "model")) return { kind: "busy", words: "Waiting for the model…" };
    if (agent.value === "thinking") return { kind: "connected", words: "Thinking" };
    if (heard === "muted") return { kind: "connected", words: "Muted" };
    if (heard === "on") return listens();
    return { kind: "connected", words: "Connected" };
  }
  if (notices.value.some(({ about, urgent }) => urgent && (about === "connection" || about === "token"))) {
    return { kind: "trouble", words: "Not connected" };
  }
  return { kind: "ready", words: "Ready" };
}

/** With push to talk the microphone is open all the time, but heard only while the button is down. */
function listens(): Situation {
  const pushed = live.begunWith.value?.talk !== "open";
  if (!replay.value && pushed && !live.talking.value) return { kind: "connected", words: "Ready to talk" };
  return { kind: "listening", words: "Listening" };
}

const WELCOME: Partial<Record<Situation["kind"], [heading: string, hint: string]>> = {
  asking: ["May this page hear you?", "The browser asks you for the microphone."],
  trouble: ["Not connected.", "What stands in the way is said below."],
  listening: ["Speak now.", "Press the button again when you are done, or just go on talking."],
};

export function welcome(kind: Situation["kind"], held: boolean): [heading: string, hint: string] {
  if (WELCOME[kind]) return WELCOME[kind];
  const heading = held ? "Hold the button and speak." : "Press the button and speak.";
  return [heading, "Your words appear as you say them, and the answer is spoken back."];
}
