// Compiles only if a client of antiphon.v1 can be written against the generated types, and a wrong one cannot.

import type * as antiphon from "antiphon";

declare function write(text: string): void;

function send(message: antiphon.ExtendedClientMessage): void {
  write(JSON.stringify(message));
}

// What the base has, the extension has too, but not the other way round.
declare function sendBase(message: antiphon.ClientMessage): void;
declare const sent: antiphon.ClientMessage;
declare const received: antiphon.ServerMessage;
send(sent);
received satisfies antiphon.ExtendedServerMessage;

const config = { sampleRate: 48000, format: "audio/ogg;codecs=opus", language: "en" } as const;
send({ type: "audio_stream_start", timestamp: 1, config });
// @ts-expect-error: the base has no Opus
sendBase({ type: "audio_stream_start", timestamp: 1, config });
// @ts-expect-error: nor the other messages
sendBase({ type: "activity_start" });

// Messages of the extension need no timestamp, and little else.
send({ type: "client_hello" });
send({ type: "client_hello", features: ["playback_mark"], outputFormats: ["audio/flac"], binaryAudio: true });
send({ type: "resume", token: "t", sessionId: "s", resumeToken: "r", received: 3 });
send({ type: "ping", id: 1 });
send({ type: "ping", id: "a", timestamp: 1 });
send({ type: "activity_start" });
send({ type: "activity_end" });
send({ type: "interrupt" });
send({ type: "playback_mark", responseId: "r", playedMs: 1.5 });
send({ type: "tool_result", callId: "c", result: { done: true } });
send({ type: "tool_result", callId: "c", result: null });
send({ type: "tool_result", callId: "c", error: "It is closed." });

send({ type: "provoke", what: "token_expiry" });

// @ts-expect-error: the base messages do need it
send({ type: "auth", token: "t" });
// @ts-expect-error: names are a list
send({ type: "client_hello", features: "playback_mark" });
// @ts-expect-error: an id is text or a number
send({ type: "ping", id: null });
// @ts-expect-error: a field that is missing
send({ type: "playback_mark", responseId: "r" });
// @ts-expect-error: what was received is counted
send({ type: "resume", token: "t", sessionId: "s", resumeToken: "r" });
// @ts-expect-error: a field that is misspelt
send({ type: "interrupt", responseID: "r" });
// @ts-expect-error: something that cannot be provoked
send({ type: "provoke", what: "silence" });
// @ts-expect-error: a message that only the server sends
send({ type: "speech_started", streamMs: 1 });

// `type` tells what a message has, and every one is known.
export function receive(message: antiphon.ExtendedServerMessage): string | number | undefined {
  switch (message.type) {
    case "auth_success":
      return message.sessionId;
    case "recognition_result":
      return message.command ?? message.transcript;
    case "audio_response":
      return message.data;
    case "error":
      return message.details?.retryAfterMs;
    case "session_info":
      return message.features.join() + message.limits.playbackBufferMs + (message.tokenExpiresAt ?? message.resumeToken ?? "");
    case "resumed":
      return message.lossy ? message.replayed : message.nextSequence + message.received + message.resumeToken;
    case "audio_ack":
      return message.sequence + message.windowMs;
    case "audio_heard":
      return message.heardMs;
    case "session_rotating":
      return message.contextRestored ? message.gapMs : message.lostAudioMs;
    case "session_rotated":
      message.upstream satisfies "primary" | "fallback";
      return message.reason === "lost" ? message.replayedAudioMs : undefined;
    case "go_away":
      return message.reason satisfies "drain" | "max_duration" | "token" | "idle";
    case "ping":
      send({ type: "pong", id: message.id, echoTime: message.timestamp });
      return message.id;
    case "pong":
      return message.echoTime;
    case "speech_started":
    case "speech_stopped":
      return message.streamMs;
    case "response_started":
      return message.format + message.language;
    case "response_timing":
      return message.audioAt - message.modelAt + (message.speechEndedAt ?? message.transcribedAt ?? 0);
    case "response_done":
      return message.status satisfies "completed" | "interrupted" | "failed";
    case "audio_flush":
      return message.reason satisfies "interrupted" | "activity" | "client" | "superseded";
    case "transcript_update":
      return message.role === "user" ? message.utteranceId : message.revision;
    case "tool_call":
      send({ type: "tool_result", callId: message.callId, result: message.args["page"] });
      return message.deadlineMs;
    case "tool_cancelled":
      return message.reason satisfies "cancelled" | "deadline" | "session";
    case "usage":
      return message.turn.audioInMs + message.session.totalTokens;
    default:
      return message satisfies never;
  }
}
