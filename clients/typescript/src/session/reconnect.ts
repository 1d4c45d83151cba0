import type { ErrorDetails } from "../messages.js";

/** How a call comes back. */
export interface ReconnectPolicy {
  /**
   * The longest waits before each attempt, the last for all further ones, in milliseconds. Chance shortens each, so that
   * not all clients of a node come at once.
   */
  delaysMs: readonly number[];
  /** When to give up; by default when the gateway keeps the session no longer, or after 2 min. */
  giveUpMs?: number;
}

export const DEFAULT_RECONNECT: ReconnectPolicy = { delaysMs: [0, 300, 1200, 2700, 4800, 7000] };

/** An error of the gateway, as far as it matters here. */
export interface Verdict {
  code: string;
  message: string;
  details?: ErrorDetails | undefined;
}

// Close codes after which it is worth coming back. 1012 and 1014 are those of proxies on the way.
const RESUMABLE = new Set([1001, 1005, 1006, 1011, 1012, 1013, 1014, 4413, 4429, 4440]);

// Of closes before which the error did not come through: its code, and words.
const CLOSES: Record<number, [code: string, sentence: string]> = {
  1001: ["SERVER_DRAINING", "The gateway is stopping."],
  1011: ["SERVER_INTERNAL", "The gateway has a fault."],
  1013: ["SERVER_AT_CAPACITY", "The gateway is full."],
  4401: ["AUTH_TOKEN_INVALID", "The token is not valid here; get a new one."],
  4409: ["SESSION_TAKEN_OVER", "The session goes on over another connection."],
  4440: ["AUTH_TOKEN_EXPIRED", "The token has expired; get a new one."],
};

/** Whether it is worth coming back after a close code, and the error that came before it, where one did. */
export function mayResume(closeCode: number, verdict: Verdict | undefined): boolean {
  if (verdict?.details?.retryable === false) return false;
  return RESUMABLE.has(closeCode) || /^AUTH_TIMEOUT|_EXPIRED$/.test(verdict?.code ?? "");
}

/** Why a connection ended: a code, and a sentence. */
export function reason(closeCode: number, verdict: Verdict | undefined): [code: string, sentence: string] {
  if (verdict) return [verdict.code, verdict.message];
  return CLOSES[closeCode] ?? ["CONNECTION_LOST", `The connection was lost (${closeCode}).`];
}

/** How long to wait before an attempt, the first being 0; `chance` is from 0 to 1. */
export function delayMs(policy: ReconnectPolicy, attempt: number, chance: number): number {
  const { delaysMs } = policy;
  return (delaysMs[Math.min(attempt, delaysMs.length - 1)] ?? 0) * chance;
}
