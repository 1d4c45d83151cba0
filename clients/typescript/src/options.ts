import type { EncoderFactory } from "./encoders/encoder.js";
import type { ReconnectPolicy } from "./session/reconnect.js";
import type { SocketFactory } from "./socket/socket.js";

/** Why a token is asked for. */
export type TokenReason = "connect" | "expiring" | "expired";

/** A JWT, or a function that gets one; it is asked only when one is needed. */
export type TokenSource = string | ((reason: TokenReason) => string | Promise<string>);

export interface MicrophoneOptions {
  deviceId?: string;
  /** Each of these is on unless it is false. */
  echoCancellation?: boolean;
  noiseSuppression?: boolean;
  autoGainControl?: boolean;
  /** Begin muted; the device is opened all the same. */
  muted?: boolean;
}

export interface OutputOptions {
  /** Where it is heard, where the browser lets one choose. */
  deviceId?: string;
  /** 0 to 1. */
  volume?: number;
}

/** What carries a tool call out: its result is any JSON value; what it throws is told to the model. */
export type Tool = (args: Record<string, any>, call: { callId: string; signal: AbortSignal }) => unknown;

export interface CallOptions {
  /** `wss://host/ws`; a page's own gateway is found at "/ws" or "ws", relative to the page. */
  url: string | URL;
  token: TokenSource;
  /** Open the microphone: `true`, or how. Needs a click before it (see `connect`). */
  microphone?: boolean | MicrophoneOptions;
  /** Play answers: on where there is an AudioContext; `false` for text and `audio` events only. */
  output?: boolean | OutputOptions;
  /** BCP 47; the browser's by default, or "en-US". */
  language?: string;
  /** Use the nine base messages only. */
  base?: boolean;
  /** Only what is said between `startTalking()` and `stopTalking()` is heard. */
  pushToTalk?: boolean;
  /**
   * What carries out the model's calls, by name; those without are to be answered by `toolCall` events. With this option, or
   * after `registerTool()`, every configured command is called here; else only those that are configured `by = "client"`.
   */
  tools?: Record<string, Tool>;
  /** How speech is sent: `flac()` of "@antiphon/client/flac", `opus()` of ".../opus"; LINEAR16 without. */
  encoder?: EncoderFactory;
  reconnect?: Partial<ReconnectPolicy> | false;
  /** How much speech waits for a connection, in milliseconds (60,000); of more the oldest is dropped, and told of. */
  maxBacklogMs?: number;
  /** How far ahead of real time answers may come, in milliseconds (2,000). */
  playbackBufferMs?: number;
  /** Where "@antiphon/client/worklet.js" is served; found by itself with bundlers that know `new URL(..., import.meta.url)`. */
  workletUrl?: string | URL;
  /** Keep the screen on while the microphone is. */
  wakeLock?: boolean;
  /** How long connecting may take, in milliseconds (10,000). */
  timeoutMs?: number;
  /** What opens the WebSocket; to wrap it, or for a runtime that has none. */
  socket?: SocketFactory;
}
