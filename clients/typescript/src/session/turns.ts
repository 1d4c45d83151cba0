import type { TurnHop, TurnHopName, TurnMetrics } from "../events.js";

type Origin = TurnMetrics["origin"];

interface Turn {
  origin: Origin;
  startedAt: number;
  utteranceId?: string | undefined;
  /** The ends of the hops, in their order, as far as they are known. */
  ends: Partial<Record<TurnHopName, number>>;
}

const ORDER: TurnHopName[] = ["uplink", "endpoint", "model", "synthesis", "gateway", "network", "playback"];
const MOST_RESPONSES = 8;

/**
 * Takes turns apart. All times are of one clock; the caller moves the gateway's onto it. Pure.
 *
 * A turn begins when the user ends, and is that of the first response after it; it is over with that one's first sample.
 */
export class TurnTimer {
  #pending: Turn | undefined;
  #turns = new Map<string, Turn>();

  /** The user has ended what he said (or typed) at `at`. */
  ended(origin: Origin, at: number, utteranceId?: string): void {
    this.#pending = { origin, startedAt: at, utteranceId, ends: {} };
  }

  /** His final words are known, as `utteranceId`, since `at`. */
  transcribed(at: number | undefined, utteranceId: string): void {
    if (!this.#pending || this.#pending.ends.endpoint !== undefined) return;
    this.#pending.utteranceId ??= utteranceId;
    if (at !== undefined && this.#pending.origin !== "typed") this.#pending.ends.endpoint = at;
  }

  /** A response begins. */
  responded(responseId: string): void {
    if (!this.#pending) return;
    this.#turns.set(responseId, this.#pending);
    this.#pending = undefined;
    if (this.#turns.size > MOST_RESPONSES) this.#turns.delete(this.#turns.keys().next().value!);
  }

  /** Another session counts its responses anew. */
  forget(): void {
    this.#turns.clear();
  }

  /** The end of a hop; the first that is told counts. */
  reached(responseId: string, hop: TurnHopName, at: number | undefined): void {
    const turn = this.#turns.get(responseId);
    if (turn && at !== undefined) turn.ends[hop] ??= at;
  }

  /** The response is heard since `at`: returns the turn. Only once. */
  heard(responseId: string, at: number, hop: "playback" | "network", clockUncertaintyMs: number): TurnMetrics | undefined {
    const turn = this.#turns.get(responseId);
    if (!turn) return undefined;
    this.#turns.delete(responseId);
    turn.ends[hop] ??= at;
    return { responseId, ...measured(turn, turn.ends[hop]!), clockUncertaintyMs };
  }
}

function measured(turn: Turn, end: number): Omit<TurnMetrics, "responseId" | "clockUncertaintyMs"> {
  const { origin, startedAt, utteranceId, ends } = turn;
  const hops: TurnHop[] = [];
  let before: number | undefined = startedAt;
  let reached = startedAt;
  for (const name of ORDER) {
    if (name === "endpoint" && origin === "typed") continue;
    const at: number | undefined = ends[name];
    if (before !== undefined && at !== undefined) {
      // Two clocks are compared, and either may be off by a little: no hop takes less than no time, or ends after the end.
      const upTo = Math.min(Math.max(at, reached), end);
      hops.push({ name, ms: upTo - reached });
      reached = upTo;
    } else if (at !== undefined) {
      reached = Math.min(Math.max(at, reached), end);
    }
    before = at;
  }
  const totalMs = end - startedAt;
  const attributedMs = hops.reduce((sum, hop) => sum + hop.ms, 0);
  return { utteranceId, origin, startedAt, hops, unattributedMs: totalMs - attributedMs, totalMs };
}
