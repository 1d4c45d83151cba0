/** How a call comes back. */
export interface ReconnectPolicy {
  /** The longest waits before each attempt, the last for all further ones, in milliseconds; each is shortened by chance. */
  delaysMs: readonly number[];
  /** When to give up; as long as the gateway keeps the session by default. */
  giveUpMs?: number;
}
