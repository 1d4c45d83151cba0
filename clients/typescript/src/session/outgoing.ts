import type { ClientHelloMessage, ExtendedClientMessage, ExtendedAudioStreamStartMessage } from "../messages.js";
import { packChunk, toBase64 } from "./frames.js";

type StreamStart = Omit<ExtendedAudioStreamStartMessage, "timestamp">;
type Distributed<T> = T extends unknown ? Omit<T, "timestamp"> : never;

/** A message of ours before it has its time. */
export type Outgoing = Distributed<Exclude<ExtendedClientMessage, { type: "audio_chunk" }>>;

/** What waits to be written: a message, or audio of the stream that is open by then. */
type Waiting = { message: Outgoing } | { audio: Uint8Array; audioMs: number; first: boolean };

/** What is written and may be lost: its bytes, and of audio its place. */
interface Kept {
  data: string | Uint8Array;
  message: Outgoing | { type: "audio_chunk"; sequence: number };
  stream: number;
  sequence: number;
  audioMs: number;
  audio?: Uint8Array;
}

export interface Frame {
  data: string | Uint8Array;
  message: Outgoing | { type: "audio_chunk"; sequence: number };
}

/**
 * What a session sends: written in order, kept until it is acknowledged, and written again after a resume from where the
 * gateway says that it ceased to receive. Pure.
 *
 * Audio gets its sequence when it is written, so that what had to be dropped while it waited leaves no gap. At most
 * `maxAudioMs` are held in all: of more the oldest that waits is dropped, and the beginning of a stream never is, since
 * an encoder's header is there.
 */
export class Outbox {
  /** Whether what is written is kept: only where a lost connection can be resumed. */
  keeps = false;
  /** Whether audio goes as binary frames. */
  binary = false;
  #kept: Kept[] = [];
  #first = 0; // the number of the first that is kept
  #written = 0; // the number of the next to be written on this connection
  #waiting: Waiting[] = [];
  #audioMs = 0;
  #bytes = 0;
  #stream = 0;
  #sequence = 0;
  #refused = 0;
  #open: StreamStart | undefined; // the stream that is open on the wire
  #fresh = false; // a stream was begun, and has no audio yet
  #active = false; // an activity is open on the wire

  constructor(
    readonly maxAudioMs: number,
    readonly maxBytes: number,
  ) {}

  /** How much audio is not safe yet. */
  get audioMs(): number {
    return this.#audioMs;
  }

  get isEmpty(): boolean {
    return this.#waiting.length === 0 && this.#written >= this.#first + this.#kept.length;
  }

  /** Adds what this client can do: the first message of every session. */
  introduce(hello: ClientHelloMessage): void {
    this.#waiting.unshift({ message: hello });
  }

  /**
   * Adds a message; returns false where too much waits already. What was written long ago makes room: only audio is
   * acknowledged, and a session may have none.
   */
  add(message: Outgoing): boolean {
    const bytes = size(message);
    while (this.#bytes + bytes > this.maxBytes && this.#first < this.#written) this.#forget(this.#first + 1);
    if (this.#bytes + bytes > this.maxBytes) return false;
    this.#bytes += bytes;
    this.#fresh ||= message.type === "audio_stream_start";
    this.#waiting.push({ message });
    return true;
  }

  /** Adds audio of the stream that was begun last; returns how many milliseconds had to be dropped. */
  addAudio(audio: Uint8Array, audioMs: number): number {
    this.#waiting.push({ audio, audioMs, first: this.#fresh });
    this.#fresh = false;
    this.#audioMs += audioMs;
    let droppedMs = 0;
    while (this.#audioMs > this.maxAudioMs) {
      const place = this.#waiting.findIndex((one) => "audio" in one && !one.first);
      const one = this.#waiting[place];
      if (!one || !("audio" in one)) break;
      this.#waiting.splice(place, 1);
      this.#audioMs -= one.audioMs;
      droppedMs += one.audioMs;
    }
    return droppedMs;
  }

  /** Returns what is to be written next, and takes it as written; undefined where there is nothing. */
  next(now: number): Frame | undefined {
    const again = this.#kept[this.#written - this.#first];
    if (again) {
      this.#written++;
      return again;
    }
    const one = this.#waiting.shift();
    if (!one) return undefined;
    const kept = "message" in one ? this.#writeMessage(one.message, now) : this.#writeAudio(one.audio, one.audioMs, now);
    if (!kept) return this.next(now);
    this.#written++;
    this.#kept.push(kept);
    if (!this.keeps) this.#forget(this.#written);
    return kept;
  }

  /** Notes that audio up to `sequence` of the session's stream `stream`, from 1, is safe, and all sent before it. */
  acknowledge(stream: number, sequence: number): void {
    stream += this.#refused;
    const last = this.#kept.findLastIndex(
      (one) => one.audioMs > 0 && (one.stream < stream || (one.stream === stream && one.sequence <= sequence)),
    );
    this.#forget(Math.min(this.#first + last + 1, this.#written));
  }

  /** Notes that the gateway took a start for none: it does not count among its streams. */
  refuseStream(): void {
    this.#refused++;
    this.endStream();
  }

  /** Notes that the gateway has ended the stream that is open: audio that waits for it is of no use. */
  endStream(): void {
    this.#open = undefined;
    let audio = true;
    this.#waiting = this.#waiting.filter((one) => {
      if ("message" in one) audio &&= one.message.type !== "audio_stream_start";
      const stays = !audio || "message" in one;
      if (!stays) this.#audioMs -= one.audioMs;
      return stays;
    });
  }

  /** Writes again, on another connection, all after the first `received`; returns how many of those are gone. */
  resume(received: number): number {
    const end = this.#first + this.#kept.length;
    this.#written = Math.max(this.#first, Math.min(received, end));
    return Math.max(0, this.#first - received);
  }

  /**
   * Begins a new session, of which the gateway knows nothing: what was not acknowledged of a stream that is open is said
   * again there, if `again` allows that (its format needs no header), within its activities; what else was written is not.
   * `hello` comes first. Of what waits only the user's words go there: the rest is about what that session knew.
   */
  restart(again: boolean, hello: ClientHelloMessage | undefined): void {
    const open = this.#open;
    const stream = this.#stream;
    const mine = (one: Kept): boolean => (one.audio ? one.stream === stream : isActivity(one.message));
    const unsaid = open && again ? this.#kept.filter(mine) : [];
    const ends = (one: Kept | undefined): boolean => one?.message.type === "activity_end";
    if (ends(unsaid[0])) unsaid.shift(); // all that was said in it is safe
    const first = unsaid.find(({ audio }) => !audio);
    const active = first ? ends(first) : this.#active;
    const rest = this.#waiting;
    this.#kept = [];
    this.#first = this.#written = this.#stream = this.#sequence = this.#refused = 0;
    this.#open = undefined;
    this.#active = false;
    this.#waiting = hello ? [{ message: hello }] : [];
    if (active) this.#waiting.push({ message: { type: "activity_start" } });
    if (open && again) this.#waiting.push({ message: open });
    for (const { audio, audioMs, message } of unsaid) {
      this.#waiting.push(audio ? { audio, audioMs, first: false } : { message: message as Outgoing });
    }
    this.#waiting.push(...rest.filter((one) => !("message" in one) || /^(activity|audio|command)/.test(one.message.type)));
    if (open && !again) this.endStream();
    this.#count();
  }

  #writeMessage(message: Outgoing, now: number): Kept | undefined {
    if (message.type === "audio_stream_start") {
      this.#open = message;
      this.#stream++;
      this.#sequence = 0;
    } else if (message.type === "audio_stream_end") {
      if (!this.#open) return this.#lose(message);
      this.#open = undefined;
    } else if (isActivity(message)) {
      this.#active = message.type === "activity_start";
    }
    const data = JSON.stringify({ ...message, timestamp: Math.floor(now) });
    return { data, message, stream: 0, sequence: 0, audioMs: 0 };
  }

  #writeAudio(audio: Uint8Array, audioMs: number, now: number): Kept | undefined {
    if (!this.#open) {
      this.#audioMs -= audioMs;
      return undefined;
    }
    const sequence = this.#sequence++;
    const data = this.binary
      ? packChunk(sequence, now, audio)
      : JSON.stringify({ type: "audio_chunk", timestamp: Math.floor(now), data: toBase64(audio), sequence });
    return { data, message: { type: "audio_chunk", sequence }, stream: this.#stream, sequence, audioMs, audio };
  }

  #lose(message: Outgoing): undefined {
    this.#bytes -= size(message);
  }

  #forget(number: number): void {
    for (const one of this.#kept.splice(0, Math.max(0, number - this.#first))) {
      this.#audioMs -= one.audioMs;
      if (one.message.type !== "audio_chunk" && one.message.type !== "client_hello") this.#bytes -= size(one.message);
      this.#first++;
    }
    if (this.#audioMs < 1e-6) this.#audioMs = 0;
  }

  #count(): void {
    this.#audioMs = this.#bytes = 0;
    for (const one of this.#waiting) {
      if ("audio" in one) this.#audioMs += one.audioMs;
      else if (one.message.type !== "client_hello") this.#bytes += size(one.message);
    }
  }
}

function isActivity({ type }: { type: string }): boolean {
  return type.startsWith("activity");
}

/** Bytes on the wire, but for the time. */
export function size(message: Outgoing): number {
  return new TextEncoder().encode(JSON.stringify(message)).length;
}
