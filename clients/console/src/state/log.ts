import type { WireEvent } from "@antiphon/client";

const MOST_ENTRIES = 5000;
const MOST_CHARACTERS = 8 * 1024 * 1024;
const FRAME_HEADER_BYTES = 16;

/** One message as it went over the wire: audio is told of by its size, and a token is not kept. */
export interface LogEntry {
  id: number;
  /** performance.now() */
  at: number;
  direction: "sent" | "received";
  type: string;
  bytes: number;
  binary: boolean;
  /** The message as one line of JSON. */
  text: string;
  /** The utterance or response that the message is about. */
  about?: string;
}

/** The last messages; of more than 5,000, or of 8 MiB, the oldest go. */
export class RawLog {
  readonly #entries: LogEntry[] = [];
  #characters = 0;
  #count = 0;
  #response: string | undefined;
  #result: LogEntry | undefined;

  get entries(): readonly LogEntry[] {
    return this.#entries;
  }

  /** How many messages there were, with those that are no longer kept. */
  get count(): number {
    return this.#count;
  }

  add(event: WireEvent, qualify: (id: string) => string): void {
    const audioBytes = event.binary ? event.bytes - FRAME_HEADER_BYTES : undefined;
    const message = elided(event.message as unknown as Record<string, unknown>, audioBytes);
    const text = JSON.stringify(message);
    const about = this.#about(message);
    const entry: LogEntry = {
      id: this.#count++,
      at: event.at,
      direction: event.direction,
      type: String(message["type"]),
      bytes: event.bytes,
      binary: event.binary,
      text,
      ...(about && { about: qualify(about) }),
    };
    this.#nameResult(entry, message);
    this.#entries.push(entry);
    this.#characters += text.length;
    while (this.#entries.length > MOST_ENTRIES || this.#characters > MOST_CHARACTERS) {
      this.#characters -= this.#entries.shift()!.text.length;
    }
  }

  clear(): void {
    this.#entries.length = this.#characters = 0;
  }

  /** A recognition_result does not say of which utterance it is: of the one whose transcript_update follows. */
  #nameResult(entry: LogEntry, message: Record<string, unknown>): void {
    if (entry.type === "recognition_result") this.#result = entry;
    if (entry.type !== "transcript_update" || message["role"] !== "user") return;
    if (this.#result && entry.about) this.#result.about = entry.about;
    this.#result = undefined;
  }

  /** A piece of an answer does not say of which response it is: of the one that began last. */
  #about(message: Record<string, unknown>): string | undefined {
    if (message["type"] === "response_started") this.#response = String(message["responseId"]);
    if (message["type"] === "audio_response") return this.#response;
    const id = message["responseId"] ?? message["utteranceId"];
    return typeof id === "string" ? id : undefined;
  }
}

const SECRETS = ["token", "resumeToken"];

/** A copy without what is long or secret. `audioBytes` is how much audio a binary frame had, which is not in the message. */
function elided(message: Record<string, unknown>, audioBytes?: number): Record<string, unknown> {
  const copy = { ...message };
  for (const name of SECRETS) if (name in copy) copy[name] = "(not shown)";
  if (message["type"] === "audio_chunk" || message["type"] === "audio_response") {
    copy["data"] = audioBytes === undefined ? sized(message["data"]) : told(audioBytes);
  }
  return copy;
}

/** The size of base64. */
function sized(data: unknown): unknown {
  if (typeof data !== "string" || data.startsWith("(")) return data; // an exported message, read again
  const padding = data.endsWith("==") ? 2 : data.endsWith("=") ? 1 : 0;
  return told((data.length / 4) * 3 - padding);
}

function told(bytes: number): string {
  return `(${bytes.toLocaleString("en")} bytes)`;
}

export interface LogFilter {
  direction: "" | LogEntry["direction"];
  type: string;
  text: string;
  /** Without what comes by the dozen: audio, its acknowledgements, pings. */
  quiet: boolean;
}

export const NO_FILTER: LogFilter = { direction: "", type: "", text: "", quiet: true };

const FREQUENT = new Set(["audio_chunk", "audio_response", "audio_ack", "audio_heard", "playback_mark", "ping", "pong"]);

export function filtered(entries: readonly LogEntry[], filter: LogFilter): readonly LogEntry[] {
  const text = filter.text.trim().toLowerCase();
  return entries.filter(
    (entry) =>
      (!filter.direction || entry.direction === filter.direction) &&
      (filter.type ? entry.type === filter.type : !filter.quiet || !FREQUENT.has(entry.type)) &&
      (!text || entry.text.toLowerCase().includes(text)),
  );
}

/** The types that there are, with how many of each, by name. */
export function typeCounts(entries: readonly LogEntry[]): [type: string, count: number][] {
  const counts = new Map<string, number>();
  for (const { type } of entries) counts.set(type, (counts.get(type) ?? 0) + 1);
  return [...counts].sort(([a], [b]) => a.localeCompare(b));
}

/** JSON Lines: one message a line, with when and which way it went. */
export function toJsonLines(entries: readonly LogEntry[], timeOrigin: number): string {
  return entries
    .map(({ at, direction, bytes, binary, text }) => {
      const head = { at: new Date(timeOrigin + at).toISOString(), direction, bytes, binary };
      return `${JSON.stringify(head).slice(0, -1)},"message":${text}}\n`;
    })
    .join("");
}
