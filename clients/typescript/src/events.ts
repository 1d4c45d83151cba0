import type { CallError, MicrophoneError } from "./errors.js";
import type { ErrorDetails, ServerMessage, ExtendedClientMessage, ExtendedServerMessage, Usage } from "./messages.js";

/** How a call stands. `reconnecting`: the connection is lost and the call comes back by itself. */
export type CallState = "idle" | "connecting" | "connected" | "reconnecting" | "closed";

/** What the agent does, for a display: it listens, works on an answer, or is heard. */
export type AgentState = "idle" | "listening" | "thinking" | "speaking";

export type MicrophoneState = "off" | "asking" | "on" | "muted";

/** The connection stands. `recovered`: the session goes on, with `replayed` messages that had not come. */
export interface ConnectedEvent {
  type: "connected";
  sessionId: string;
  userId: string;
  recovered: boolean;
  replayed: number;
  /** Something could not be kept on either side: messages or audio are missing. */
  lossy: boolean;
  /** How long there was no connection, in milliseconds; 0 at first. */
  gapMs: number;
}

/** The connection is lost; attempt `attempt` (from 1) to come back follows in `delayMs`. */
export interface ReconnectingEvent {
  type: "reconnecting";
  attempt: number;
  delayMs: number;
  /** Why, as a code: the network's `CONNECTION_LOST`, or what the gateway or the model behind it say. */
  code: string;
  /** Why, as a sentence. */
  reason: string;
}

/** The call is over, by `disconnect()` (then without an error) or for good. */
export interface ClosedEvent {
  type: "closed";
  error?: CallError;
}

export interface StateEvent {
  type: "state";
  state: CallState;
}

export interface AgentStateEvent {
  type: "agentState";
  state: AgentState;
}

/** The user begins or ceases to speak, as the gateway tells; `streamMs` is the place in the audio stream. */
export interface SpeechEvent {
  type: "speech";
  speaking: boolean;
  streamMs: number;
}

/** All of an utterance so far. The model's is its response: `utteranceId` is the `responseId`. */
export interface TranscriptEvent {
  type: "transcript";
  role: "user" | "model";
  utteranceId: string;
  text: string;
  isFinal: boolean;
  /** Of the user, where the model gives one: 0 to 1. */
  confidence?: number;
  /** The user typed it. */
  typed?: boolean;
}

/** A configured command was recognised in what the user said. */
export interface CommandEvent {
  type: "command";
  name: string;
  transcript: string;
  utteranceId: string;
}

export interface ResponseEvent {
  type: "response";
  responseId: string;
  status: "started" | "completed" | "interrupted" | "failed";
}

/** An answer was cut. What was played is counted in samples that left the player, not by a clock. */
export interface InterruptedEvent {
  type: "interrupted";
  responseId: string;
  reason: "activity" | "client" | "interrupted" | "superseded";
  playedMs: number;
  droppedMs: number;
}

/** A piece of an answer, as it comes: mono, 16 bit. Played already where the call has an output. */
export interface AudioEvent {
  type: "audio";
  responseId: string;
  pcm: Int16Array;
  rateHz: number;
  durationMs: number;
}

/** The loudspeaker begins to speak, or is silent again, having played `playedMs` of the response. */
export interface PlaybackEvent {
  type: "playback";
  playing: boolean;
  responseId: string;
  playedMs: number;
}

/** The browser lets nothing be heard before the user does something: call `startAudio()` in a click. */
export interface PlaybackBlockedEvent {
  type: "playbackBlocked";
  blocked: boolean;
}

/** The model wants something done. Answer once, within `deadlineMs`; `signal` says that nobody wants it any more. */
export interface ToolCallEvent {
  type: "toolCall";
  callId: string;
  name: string;
  args: Record<string, any>;
  deadlineMs: number;
  signal: AbortSignal;
  /** With any JSON value. */
  respond(result: unknown): void;
  /** With a sentence for the model. */
  fail(sentence: string): void;
}

export interface ToolCancelledEvent {
  type: "toolCancelled";
  callId: string;
  reason: "cancelled" | "deadline" | "session";
}

/** A tool call was answered, by whomever. */
export interface ToolDoneEvent {
  type: "toolDone";
  callId: string;
  result?: unknown;
  error?: string;
}

export interface MicrophoneEvent {
  type: "microphone";
  state: MicrophoneState;
  /** What the device is called, once it is on. */
  label?: string;
  error?: MicrophoneError;
}

/** Devices came or went, or the one in use was lost and another took its place. */
export interface DevicesChangedEvent {
  type: "devicesChanged";
}

/** Audio was given up, as more waited for a connection than may be kept. */
export interface AudioDroppedEvent {
  type: "audioDropped";
  ms: number;
}

/** The gateway renews its connection to the model. With `rotated` it is done, and the model hears again. */
export interface RotationEvent {
  type: "rotation";
  stage: "rotating" | "rotated";
  reason: string;
  contextRestored: boolean;
  gapMs: number;
  lostAudioMs: number;
  replayedAudioMs: number;
  upstream: "primary" | "fallback";
}

/** The connection is going to be closed: finish, renew the token, or say something. It comes back by itself. */
export interface GoAwayEvent {
  type: "goAway";
  timeLeftMs: number;
  reason: "drain" | "idle" | "max_duration" | "token";
}

export interface UsageEvent {
  type: "usage";
  turn: Usage;
  session: Usage;
}

/** One answered turn, taken apart; see `TurnMetrics`. */
export interface TurnEvent {
  type: "turn";
  metrics: TurnMetrics;
}

/** The gateway tells of trouble that ends nothing. */
export interface ErrorEvent {
  type: "error";
  code: string;
  message: string;
  details?: ErrorDetails;
}

/** A message as it went over the wire; binary audio as the message that it stands for. Only by `on("wire")`. */
export interface WireEvent {
  type: "wire";
  direction: "sent" | "received";
  /** performance.now() */
  at: number;
  bytes: number;
  binary: boolean;
  message: ExtendedClientMessage | ServerMessage | ExtendedServerMessage;
}

export type CallEvent =
  | StateEvent
  | ConnectedEvent
  | ReconnectingEvent
  | ClosedEvent
  | AgentStateEvent
  | SpeechEvent
  | TranscriptEvent
  | CommandEvent
  | ResponseEvent
  | InterruptedEvent
  | AudioEvent
  | PlaybackEvent
  | PlaybackBlockedEvent
  | ToolCallEvent
  | ToolCancelledEvent
  | ToolDoneEvent
  | MicrophoneEvent
  | DevicesChangedEvent
  | AudioDroppedEvent
  | RotationEvent
  | GoAwayEvent
  | UsageEvent
  | TurnEvent
  | ErrorEvent
  | WireEvent;

export type CallEventType = CallEvent["type"];
export type CallEventOf<T extends CallEventType> = Extract<CallEvent, { type: T }>;

/**
 * Where the time of one turn went, in milliseconds of this device's clock; the gateway's times are moved onto it by the
 * clock offset (see `Call.clock`). `hops` come in their order, each with both its ends known; what lies between two ends of
 * which one is not known is `unattributedMs`. All of it sums to `totalMs`: from the end of the user's speech (or the typed
 * turn) to the first sample at the loudspeaker, or without one to the first audio here.
 */
export interface TurnMetrics {
  responseId: string;
  utteranceId?: string;
  origin: "speech" | "pushToTalk" | "typed";
  /** performance.now() at the end of speech. */
  startedAt: number;
  hops: TurnHop[];
  unattributedMs: number;
  totalMs: number;
  /** Half of the best round trip: the offset is no better known than that. */
  clockUncertaintyMs: number;
}

/**
 * - `uplink`: until the gateway has the last of it: capture, encoding, network
 * - `endpoint`: until the model has found that speech has ended, and the final transcript is there
 * - `model`: until the model's first byte of the answer
 * - `synthesis`: until its first audio is at the gateway
 * - `gateway`: until the gateway has sent the first audio
 * - `network`: until that is here
 * - `playback`: until its first sample is at the loudspeaker, prebuffer and device included
 */
export type TurnHopName = "uplink" | "endpoint" | "model" | "synthesis" | "gateway" | "network" | "playback";

export interface TurnHop {
  name: TurnHopName;
  ms: number;
}
