import { MicrophoneError, type MicrophoneErrorKind } from "../errors.js";

const SENTENCES: Record<MicrophoneErrorKind, string> = {
  "permission-denied":
    "The microphone is blocked: allow it beside the page's address, or in the system's settings, and open it again.",
  "permission-dismissed": "The question for the microphone was closed without an answer: open it again, and allow it.",
  "not-found": "No microphone was found: connect one, and open it again.",
  "in-use": "The microphone cannot be opened: close other programs that may be using it, and open it again.",
  constraints: "The chosen microphone is not there any more: choose another one.",
  ended: "The microphone was disconnected: connect it again, or choose another one, and open it again.",
  silent:
    "Nothing comes from the microphone: the device or the system has switched it off, or all audio stands still.",
  "insecure-context":
    "Browsers give the microphone only to pages over https, or at http://localhost: open this page there.",
  unsupported: "This browser cannot record: use a current Chrome, Edge, Firefox or Safari.",
};

const KINDS: Record<string, MicrophoneErrorKind> = {
  NotAllowedError: "permission-denied",
  SecurityError: "permission-denied",
  NotFoundError: "not-found",
  NotReadableError: "in-use",
  AbortError: "in-use",
  OverconstrainedError: "constraints",
};

export function microphoneError(kind: MicrophoneErrorKind, cause?: unknown): MicrophoneError {
  return new MicrophoneError(kind, SENTENCES[kind], cause);
}

/** What getUserMedia rejected with, as an error that says what to do. */
export function getUserMediaError(cause: unknown): MicrophoneError {
  const { name = "", message = "" } = cause as { name?: string; message?: string };
  if (name === "NotAllowedError" && /dismissed/i.test(message)) return microphoneError("permission-dismissed", cause);
  return microphoneError(KINDS[name] ?? "unsupported", cause);
}

/** Why there can be no microphone here at all, or undefined. */
export function microphoneObstacle(): MicrophoneError | undefined {
  if (!globalThis.isSecureContext) return microphoneError("insecure-context");
  const able = typeof AudioWorkletNode !== "undefined" && navigator.mediaDevices?.getUserMedia;
  return able ? undefined : microphoneError("unsupported");
}
