import { CallError } from "../errors.js";
import type { TokenReason, TokenSource } from "../options.js";

const RENEW_MS = 30_000; // how long before a token expires another is asked for
const LEAST_MS = 1_000;
export const MOST_MS = 2 ** 31 - 1; // a timer waits no longer

/** The token in force; another is asked for only when it is needed. */
export class Tokens {
  #token: string | undefined;
  #asking: Promise<string> | undefined;
  #reason: TokenReason = "connect";

  constructor(readonly source: TokenSource) {
    if (typeof source === "string") this.#token = source;
  }

  /** Whether there is another when one expires. */
  get renewable(): boolean {
    return typeof this.source !== "string";
  }

  /** Whether `get()` would ask for one. */
  get asks(): boolean {
    return this.#token === undefined;
  }

  /** Returns the token in force. Rejects with CallError TOKEN_UNAVAILABLE where the application's function fails. */
  get(): Promise<string> {
    if (this.#token !== undefined) return Promise.resolve(this.#token);
    return (this.#asking ??= this.#ask());
  }

  use(token: string): void {
    this.#token = token;
  }

  /** Lets the next one be asked for, where there is one. */
  expire(reason: TokenReason): void {
    if (!this.renewable) return;
    this.#token = this.#asking = undefined; // one that never answers is not waited for again
    this.#reason = reason;
  }

  async #ask(): Promise<string> {
    const source = this.source as Exclude<TokenSource, string>; // a fixed one stays in force
    try {
      return (this.#token = await source(this.#reason));
    } catch (cause) {
      this.#asking = undefined;
      const why = cause instanceof Error ? ` (${cause.message})` : "";
      throw new CallError("TOKEN_UNAVAILABLE", `No token could be had${why}.`, { cause, retryable: true });
    }
  }
}

/** Returns in how many milliseconds to ask for another token. A short-lived one is renewed at half of its time. */
export function renewalDelayMs(expiresAt: number, now: number): number {
  const leftMs = expiresAt - now;
  return Math.min(MOST_MS, leftMs > 2 * RENEW_MS ? leftMs - RENEW_MS : Math.max(leftMs / 2, LEAST_MS));
}
