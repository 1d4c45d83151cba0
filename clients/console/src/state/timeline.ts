import type { CallEvent } from "@antiphon/client";

const MOST = 400;

/** Something that happened at one moment, on the waveform's clock. */
export interface Mark {
  at: number;
  kind: "link" | "good" | "bad" | "rotation" | "barge";
  /** A few words, and all there is to say. */
  label: string;
  text: string;
}

export type LinkState = "connecting" | "connected" | "reconnecting" | "rotating";

/** How the connection stood for a while; without `to` it still does. */
export interface LinkSpan {
  state: LinkState;
  from: number;
  to?: number;
}

/** When somebody spoke. `id` is the utterance, once it is known. */
export interface VoiceSpan {
  side: "user" | "model";
  from: number;
  to?: number;
  id?: string;
}

export interface Timeline {
  marks: readonly Mark[];
  link: readonly LinkSpan[];
  voices: readonly VoiceSpan[];
}

export const EMPTY_TIMELINE: Timeline = { marks: [], link: [], voices: [] };

export function timelineAfter(timeline: Timeline, at: number, event: CallEvent, qualify: (id: string) => string): Timeline {
  const mark = event.type === "reconnecting" ? lostMark(timeline, at, event.reason) : markOf(at, event);
  const marks = mark ? bounded([...timeline.marks, mark]) : timeline.marks;
  const link = linkAfter(timeline.link, at, event);
  const voices = voicesAfter(timeline.voices, at, event, qualify);
  const same = marks === timeline.marks && link === timeline.link && voices === timeline.voices;
  return same ? timeline : { marks, link, voices };
}

function markOf(at: number, event: CallEvent): Mark | undefined {
  switch (event.type) {
    case "connected":
      return connectedMark(at, event);
    case "closed":
      return { at, kind: event.error ? "bad" : "link", label: "closed", text: event.error?.message ?? "Closed by you." };
    case "rotation":
      return rotationMark(at, event);
    case "interrupted":
      return {
        at,
        kind: "barge",
        label: "cut",
        text: `Answer cut: ${seconds(event.playedMs)} heard, ${seconds(event.droppedMs)} dropped.`,
      };
    case "audioDropped":
      return { at, kind: "bad", label: "dropped", text: `${seconds(event.ms)} of speech was dropped: too much waited.` };
    case "goAway":
      return { at, kind: "link", label: "go away", text: goAwayText(event.reason, event.timeLeftMs) };
    default:
      return undefined;
  }
}

/** One for each loss, not for each attempt; and a loss soon after the last begins with a later attempt than the first. */
function lostMark({ marks, link }: Timeline, at: number, reason: string): Mark | undefined {
  const since = link.at(-1)?.from ?? at;
  const told = marks.some((mark) => mark.label === "lost" && mark.at >= since);
  return told ? undefined : { at, kind: "bad", label: "lost", text: reason };
}

function connectedMark(at: number, event: Extract<CallEvent, { type: "connected" }>): Mark {
  if (!event.recovered) return { at, kind: "good", label: "connected", text: `Connected as ${event.userId}.` };
  const replayed = event.replayed === 1 ? "1 message" : `${event.replayed} messages`;
  const loss = event.lossy ? "something is missing" : "nothing lost";
  return {
    at,
    kind: event.lossy ? "bad" : "good",
    label: `resumed ${seconds(event.gapMs)}`,
    text: `Resumed after ${seconds(event.gapMs)}: ${replayed} made up for, ${loss}.`,
  };
}

const ROTATIONS: Record<string, string> = {
  go_away: "the model announced its end",
  max_duration: "it reached its longest duration",
  lost: "it was lost",
  mute: "the model no longer reacts",
  refused: "the model refused what was said",
  fallback: "the embedded engine stands in for the model",
  recovered: "the model is back",
};

function rotationMark(at: number, event: Extract<CallEvent, { type: "rotation" }>): Mark {
  if (event.stage === "rotating") {
    const text = `The gateway renews its connection to the model: ${ROTATIONS[event.reason] ?? event.reason}.`;
    return { at, kind: "rotation", label: "rotating", text };
  }
  const parts = [
    `The model hears again after ${seconds(event.gapMs)}`,
    event.lostAudioMs ? `${seconds(event.lostAudioMs)} of speech lost` : "no speech lost",
    event.contextRestored ? "it remembers by itself" : "it was told the conversation",
  ];
  if (event.replayedAudioMs) parts.push(`${seconds(event.replayedAudioMs)} heard twice`);
  if (event.upstream === "fallback") parts.push("the embedded engine stands in");
  return { at, kind: "rotation", label: `rotated ${seconds(event.gapMs)}`, text: `${parts.join(", ")}.` };
}

function goAwayText(reason: string, timeLeftMs: number): string {
  const what: Record<string, string> = {
    drain: "The gateway is being stopped",
    idle: "Nothing has been said for a while",
    max_duration: "The longest duration of a session is near",
    token: "The token is about to expire",
  };
  return `${what[reason] ?? reason}: ${Math.round(timeLeftMs / 1000)} s are left.`;
}

function linkAfter(spans: readonly LinkSpan[], at: number, event: CallEvent): readonly LinkSpan[] {
  if (event.type === "state") {
    const { state } = event;
    return switched(spans, at, state === "idle" || state === "closed" ? undefined : state);
  }
  if (event.type === "rotation") return switched(spans, at, event.stage === "rotating" ? "rotating" : "connected");
  return spans;
}

function switched(spans: readonly LinkSpan[], at: number, state: LinkState | undefined): readonly LinkSpan[] {
  const last = spans.at(-1);
  const open = last && last.to === undefined;
  if (open && last.state === state) return spans;
  const before = open ? [...spans.slice(0, -1), { ...last, to: at }] : spans;
  return state ? bounded([...before, { state, from: at }]) : before;
}

function voicesAfter(
  spans: readonly VoiceSpan[],
  at: number,
  event: CallEvent,
  qualify: (id: string) => string,
): readonly VoiceSpan[] {
  switch (event.type) {
    case "speech":
      return event.speaking ? begun(spans, { side: "user", from: at }) : ended(spans, "user", at);
    case "transcript": {
      if (event.role !== "user") return spans;
      const id = qualify(event.utteranceId);
      return spans.some((span) => span.id === id) ? spans : named(spans, id);
    }
    case "playback": {
      const id = qualify(event.responseId);
      if (!event.playing) return ended(spans, "model", at);
      const last = spans.at(-1);
      const same = last?.id === id && last.to === undefined;
      return same ? spans : begun(ended(spans, "model", at), { side: "model", from: at, id });
    }
    case "turn": {
      const { utteranceId, startedAt } = event.metrics;
      if (!utteranceId) return spans;
      return changed(spans, (span) => span.id === qualify(utteranceId), (span) => ({
        ...span,
        to: Math.max(span.from, startedAt), // when speech ended, not when that was told
      }));
    }
    case "closed":
      return ended(ended(spans, "user", at), "model", at);
    default:
      return spans;
  }
}

function begun(spans: readonly VoiceSpan[], span: VoiceSpan): readonly VoiceSpan[] {
  return bounded([...spans, span]);
}

function ended(spans: readonly VoiceSpan[], side: VoiceSpan["side"], at: number): readonly VoiceSpan[] {
  return changed(spans, (span) => span.side === side && span.to === undefined, (span) => ({ ...span, to: at }));
}

/** Gives the id to the last thing that the user said, unless that has one: typed words are no sound. */
function named(spans: readonly VoiceSpan[], id: string): readonly VoiceSpan[] {
  const last = spans.findLast((span) => span.side === "user");
  return last && !last.id ? spans.map((span) => (span === last ? { ...span, id } : span)) : spans;
}

function changed(
  spans: readonly VoiceSpan[],
  which: (span: VoiceSpan) => boolean,
  change: (span: VoiceSpan) => VoiceSpan,
): readonly VoiceSpan[] {
  return spans.some(which) ? spans.map((span) => (which(span) ? change(span) : span)) : spans;
}

function bounded<T>(items: T[]): T[] {
  return items.length > MOST ? items.slice(-MOST) : items;
}

/** "40 ms", "1.4 s", "12 s" */
export function seconds(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  return `${(ms / 1000).toFixed(ms < 9950 ? 1 : 0)} s`;
}
