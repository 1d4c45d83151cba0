import type { ErrorCode } from "./messages.js";

/** What can go wrong on this side of the wire, beside the gateway's own codes. */
export type LocalErrorCode =
  /** Nothing answers at the URL, or what answers is no gateway. */
  | "CONNECT_FAILED"
  /** The gateway did not answer in time. */
  | "CONNECT_TIMEOUT"
  /** The connection was lost, and could not be restored while the gateway keeps the session. */
  | "CONNECTION_LOST"
  /** The application's token function failed. */
  | "TOKEN_UNAVAILABLE"
  /** What answers does not speak the protocol. */
  | "PROTOCOL_MISMATCH"
  /** This browser lacks what the call needs. */
  | "UNSUPPORTED"
  /** More waits to be sent than may be kept. */
  | "BACKLOG_FULL"
  /** The call was closed by this side. */
  | "CALL_CLOSED"
  /** More events waited to be iterated over than may be kept. */
  | "EVENTS_MISSED";

/** Why a call could not be made, or is over. `message` is a sentence for a person. */
export class CallError extends Error {
  override readonly name = "CallError";

  constructor(
    /** One of the gateway's `ErrorCode`s, or a `LocalErrorCode`. */
    readonly code: ErrorCode | LocalErrorCode | (string & {}),
    message: string,
    readonly details: { closeCode?: number; retryable?: boolean; retryAfterMs?: number; cause?: unknown } = {},
  ) {
    super(message, { cause: details.cause });
  }
}

export type MicrophoneErrorKind =
  | "permission-denied"
  | "permission-dismissed"
  | "not-found"
  | "in-use"
  | "constraints"
  | "ended"
  | "silent"
  | "insecure-context"
  | "unsupported";

/** Why there is no microphone, with what to do about it in `message`. */
export class MicrophoneError extends Error {
  override readonly name = "MicrophoneError";

  constructor(
    readonly kind: MicrophoneErrorKind,
    message: string,
    cause?: unknown,
  ) {
    super(message, { cause });
  }
}
