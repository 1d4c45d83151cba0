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

/** What follows from the end of a connection: come back, come back with another token, or nothing. */
export type Fate = "resume" | "renew" | "over";

/** An error of the gateway, as far as it matters here. */
export interface Verdict {
  code: string;
  message: string;
  details?: ErrorDetails | undefined;
}

// Close codes after which it is worth coming back. 1012 and 1014 are those of proxies on the way.
const RESUMABLE = new Set([1001, 1005, 1006, 1011, 1012, 1013, 1014, 4413, 4429]);

const SENTENCES: Record<number, string> = {
  1000: "The gateway closed the call.",
  1001: "The gateway is stopping.",
  1002: "Gateway and client do not understand each other.",
  1006: "The connection was lost.",
  1009: "A message was too big for the gateway.",
  1011: "The gateway has a fault.",
  1013: "The gateway is full.",
  4400: "Gateway and client do not understand each other.",
  4401: "The token is not valid here; get a new one.",
  4403: "The gateway does not accept connections from this page.",
  4408: "Nothing was said for a while.",
  4409: "The session goes on over another connection.",
  4413: "This client reads too slowly.",
  4429: "There are too many connections.",
  4440: "The token has expired; get a new one.",
  4441: "The session reached its longest duration.",
};

/** What follows from a close code, and from the error that came before it, where one did. */
export function fate(closeCode: number, verdict: Verdict | undefined): Fate {
  if (verdict?.details?.retryable === false) return "over";
  if (closeCode === 4440 || verdict?.code === "AUTH_TOKEN_EXPIRED") return "renew";
  if (verdict?.code === "AUTH_TIMEOUT") return "resume";
  return RESUMABLE.has(closeCode) ? "resume" : "over";
}

/** Why a connection ended, as a sentence. */
export function sentence(closeCode: number, verdict: Verdict | undefined): string {
  return verdict?.message ?? SENTENCES[closeCode] ?? `The gateway closed the connection (${closeCode}).`;
}

/** How long to wait before an attempt, the first being 0; `chance` is from 0 to 1. */
export function delayMs(policy: ReconnectPolicy, attempt: number, chance: number): number {
  const { delaysMs } = policy;
  return (delaysMs[Math.min(attempt, delaysMs.length - 1)] ?? 0) * chance;
}
