import type { TurnHopName, TurnMetrics } from "@antiphon/client";

export const MOST_TURNS = 50;

export type PartName = TurnHopName | "unattributed";

/** The parts of a turn, in their order, with what each is. */
export const PARTS: readonly { name: PartName; label: string; meaning: string }[] = [
  { name: "uplink", label: "Uplink", meaning: "from the end of speech until the gateway has the last of it" },
  { name: "endpoint", label: "Endpoint", meaning: "until the end of speech is found, and the final transcript is there" },
  { name: "model", label: "Model", meaning: "until the model’s first byte of the answer" },
  { name: "synthesis", label: "Synthesis", meaning: "until its first audio is at the gateway" },
  { name: "gateway", label: "Gateway", meaning: "until the gateway has sent it" },
  { name: "network", label: "Network", meaning: "until it is here" },
  { name: "playback", label: "Playback", meaning: "until its first sample is at the loudspeaker" },
  { name: "unattributed", label: "Rest", meaning: "measured, but between two ends of which one is not known" },
];

/** One turn of the waterfall. */
export interface MeasuredTurn {
  /** The response's. */
  id: string;
  number: number;
  utteranceId?: string;
  metrics: TurnMetrics;
}

export function turnsAfter(
  turns: readonly MeasuredTurn[],
  metrics: TurnMetrics,
  qualify: (id: string) => string,
): readonly MeasuredTurn[] {
  const turn: MeasuredTurn = {
    id: qualify(metrics.responseId),
    number: (turns.at(-1)?.number ?? 0) + 1,
    metrics,
    ...(metrics.utteranceId && { utteranceId: qualify(metrics.utteranceId) }),
  };
  return [...turns, turn].slice(-MOST_TURNS);
}

/** The parts with a length: the hops and the rest, which sum to the total. */
export function partsOf(metrics: TurnMetrics): { name: PartName; ms: number }[] {
  const rest = { name: "unattributed" as const, ms: metrics.unattributedMs };
  return [...metrics.hops, rest].filter(({ ms }) => ms > 0);
}

export function msOf(metrics: TurnMetrics, name: PartName): number | undefined {
  if (name === "unattributed") return metrics.unattributedMs;
  return metrics.hops.find((hop) => hop.name === name)?.ms;
}

/** The value that the fraction `rank` of all does not exceed, by nearest rank; undefined of none. */
export function percentile(values: readonly number[], rank: number): number | undefined {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(rank * sorted.length) - 1)];
}

/** A round number at or above `ms`, for the end of a scale. */
export function scaleEnd(ms: number): number {
  const unit = 10 ** Math.floor(Math.log10(Math.max(ms, 1)));
  return unit * ([1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8, 10].find((step) => step * unit >= ms) ?? 10);
}
