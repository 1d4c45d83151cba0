import type { CallEventType } from "@antiphon/client";

/** An object, so that the compiler misses a type that is missing. */
const TYPES: Record<CallEventType, true> = {
  state: true,
  connected: true,
  reconnecting: true,
  closed: true,
  agentState: true,
  speech: true,
  transcript: true,
  command: true,
  response: true,
  interrupted: true,
  audio: true,
  playback: true,
  playbackBlocked: true,
  toolCall: true,
  toolCancelled: true,
  toolDone: true,
  microphone: true,
  devicesChanged: true,
  audioDropped: true,
  rotation: true,
  goAway: true,
  usage: true,
  turn: true,
  error: true,
  wire: true,
};

/** Everything that a call tells: a listener names its type. */
export const EVENT_TYPES = Object.keys(TYPES) as CallEventType[];
