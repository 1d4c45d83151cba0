import type { Encoder, EncoderFactory, StreamFormat } from "./encoders/encoder.js";
import { CallError } from "./errors.js";
import type { Session } from "./session/session.js";

const ANCHORS = 1500; // a minute of audio, in pieces of 40 ms
const MOST_SAMPLES = 8000; // in a piece: what is larger than a message may be ends a connection
const MOST_EARLY_S = 60; // of audio that waits for an encoder to be loaded

interface Stream {
  rateHz: number;
  samples: number;
  encoder: Encoder | undefined;
  /** What waits for the encoder. */
  early: Int16Array[];
  opening: Promise<void>;
  /** When the sample at `ms` of the stream was captured. */
  anchors: { ms: number; at: number }[];
}

/** The audio that goes up: one stream after the other, in one format. */
export class Uplink {
  #stream: Stream | undefined;
  #ending: Promise<void> = Promise.resolve();

  constructor(
    readonly session: Session,
    readonly factory: EncoderFactory | undefined,
    readonly language: () => string,
    readonly failed: (error: CallError) => void,
  ) {
    session.repeats = factory === undefined;
  }

  get open(): boolean {
    return this.#stream !== undefined;
  }

  /** Sends samples that were captured at `at`, performance.now() of the first; opens a stream where none is open. */
  take(samples: Int16Array, at: number, rateHz: number): void {
    for (let from = 0; from < samples.length; from += MOST_SAMPLES) {
      this.#take(samples.subarray(from, from + MOST_SAMPLES), at + (1000 * from) / rateHz, rateHz);
    }
  }

  #take(samples: Int16Array, at: number, rateHz: number): void {
    if (this.#stream && this.#stream.rateHz !== rateHz) void this.end();
    const stream = (this.#stream ??= this.#begin(rateHz));
    stream.anchors.push({ ms: (1000 * stream.samples) / rateHz, at });
    if (stream.anchors.length > ANCHORS) stream.anchors.shift();
    stream.samples += samples.length;
    if (!this.factory) {
      const bytes = new Uint8Array(samples.buffer, samples.byteOffset, samples.byteLength).slice();
      this.session.sendAudio(bytes, (1000 * samples.length) / rateHz);
    } else if (stream.encoder) {
      stream.encoder.encode(samples);
    } else {
      stream.early.push(samples.slice());
      if (stream.early.length * samples.length > MOST_EARLY_S * rateHz) stream.early.shift();
    }
  }

  /** Ends the stream: all of it is recognised. */
  end(): Promise<void> {
    const stream = this.#stream;
    this.#stream = undefined;
    if (stream) this.#ending = this.#finish(stream);
    return this.#ending;
  }

  /** Notes that the stream is no more on the gateway's side: the next samples begin another. */
  lost(): void {
    this.#stream?.encoder?.close();
    this.#stream = undefined;
  }

  /** Notes that the stream goes on in another session, where it begins with the last `againMs`. */
  moved(againMs: number): void {
    const stream = this.#stream;
    if (!stream) return;
    if (this.factory) return this.lost();
    const goneMs = Math.max(0, (1000 * stream.samples) / stream.rateHz - againMs);
    stream.samples -= Math.round((goneMs * stream.rateHz) / 1000);
    for (const anchor of stream.anchors) anchor.ms -= goneMs;
  }

  /** When the sample at a place of the open stream was captured; undefined where that is not known, or it is ended. */
  capturedAt(streamMs: number): number | undefined {
    const anchor = this.#stream?.anchors.findLast(({ ms }) => ms <= streamMs);
    return anchor && anchor.at + (streamMs - anchor.ms);
  }

  #begin(rateHz: number): Stream {
    const format: StreamFormat = this.factory?.format ?? "LINEAR16";
    const stream: Stream = { rateHz, samples: 0, encoder: undefined, early: [], opening: Promise.resolve(), anchors: [] };
    if (!this.factory) this.#announce(format, rateHz);
    else stream.opening = this.#load(this.factory, stream, this.#ending);
    return stream;
  }

  #announce(format: StreamFormat, sampleRate: number): void {
    this.session.send({ type: "audio_stream_start", config: { sampleRate, format, language: this.language() } });
  }

  async #load(factory: EncoderFactory, stream: Stream, before: Promise<void>): Promise<void> {
    try {
      await before;
      const encoder = await factory.create(stream.rateHz, (data, audioMs) => this.session.sendAudio(data.slice(), audioMs));
      this.#announce(factory.format, stream.rateHz);
      for (const samples of stream.early.splice(0)) encoder.encode(samples);
      stream.encoder = encoder;
    } catch (error) {
      if (this.#stream === stream) this.#stream = undefined;
      if (!(error instanceof CallError)) throw error;
      if (error.code !== "CALL_CLOSED") this.failed(error);
    }
  }

  async #finish(stream: Stream): Promise<void> {
    if (this.factory) {
      await stream.opening;
      if (!stream.encoder) return; // it could not be loaded, which was told
      await stream.encoder.end();
      stream.encoder.close();
    }
    if (this.session.state === "over") return;
    this.session.send({ type: "audio_stream_end", duration: (1000 * stream.samples) / stream.rateHz });
  }
}
