import { CallError } from "../errors.js";
import type { Encoder, EncoderFactory } from "./encoder.js";
import { OggWriter, opusHead, opusTags } from "./ogg.js";

const FRAME_48K = 960;
/** 40 ms: what a page delays, and 6 kbit/s for its header. */
const PAGE_PACKETS = 2;
/** What libopus looks ahead. */
const LOOKAHEAD_48K = 312;
const MOST_WAITING_48K = 60 * 48_000;
const INSTEAD = 'Use flac() of "@antiphon/client/flac", or no encoder';

export interface OpusOptions {
  /** Bits a second, pages apart: 24,000 by default. */
  bitrate?: number;
}

/**
 * Sends speech as Opus in Ogg, encoded by the browser: a ninth of LINEAR16. For a gateway that speaks antiphon.v1.
 * `create` raises CallError UNSUPPORTED where the browser cannot.
 */
export function opus({ bitrate = 24_000 }: OpusOptions = {}): EncoderFactory {
  return {
    format: "audio/ogg;codecs=opus",
    async create(rateHz, onData) {
      const config: AudioEncoderConfig & { opus: OpusEncoderConfig & { application: "audio" } } = {
        codec: "opus",
        sampleRate: rateHz,
        numberOfChannels: 1,
        bitrate,
        // The mode for voice has filters for poor microphones, which take speech further from what it was.
        opus: { application: "audio", frameDuration: 20_000, format: "opus" },
      };
      if (!(await isSupported(config))) {
        const words = `Opus of ${bitrate} bit/s at ${rateHz} Hz cannot be encoded here. ${INSTEAD}.`;
        throw new CallError("UNSUPPORTED", words);
      }
      return new OpusEncoder(config, onData);
    },
  };
}

async function isSupported(config: AudioEncoderConfig): Promise<boolean> {
  if (typeof AudioEncoder === "undefined") return false;
  try {
    return (await AudioEncoder.isConfigSupported(config)).supported ?? false;
  } catch {
    return false; // a bitrate or rate that there cannot be
  }
}

/** Positions and lengths are in samples at 48 kHz, as Ogg counts them. */
class OpusEncoder implements Encoder {
  readonly #encoder: AudioEncoder;
  readonly #rateHz: number;
  readonly #onData: (data: Uint8Array, audioMs: number) => void;
  readonly #pages = new OggWriter(Math.floor(Math.random() * 2 ** 32));
  #given = 0; // samples, at their own rate
  #preSkip = LOOKAHEAD_48K;
  /** Encoded, and not on a page yet. */
  #packets: Uint8Array[] = [];
  #coded = 0;
  #written = 0;
  #ending = false;
  #over: CallError | undefined;

  constructor(config: AudioEncoderConfig, onData: (data: Uint8Array, audioMs: number) => void) {
    this.#rateHz = config.sampleRate;
    this.#onData = onData;
    this.#encoder = new AudioEncoder({
      output: (chunk, metadata) => this.#take(chunk, metadata),
      error: (cause) => this.#fail(`The browser's Opus encoder has failed: ${cause.message}. ${INSTEAD}.`, cause),
    });
    this.#encoder.configure(config);
  }

  encode(samples: Int16Array): void {
    if (this.#over) throw this.#over;
    if (!samples.length) return;
    if (this.#given48 - this.#coded > MOST_WAITING_48K) {
      throw this.#fail(`This device encodes Opus more slowly than it is spoken. ${INSTEAD}.`);
    }
    this.#encode(samples);
  }

  async end(): Promise<void> {
    if (this.#over) throw this.#over;
    this.#ending = true;
    if (this.#given) await this.#finish();
    if (this.#over) throw this.#over;
    this.close();
  }

  close(): void {
    this.#fail("This Opus encoder was closed: make another one for the next stream.");
  }

  get #given48(): number {
    return Math.round((this.#given * 48_000) / this.#rateHz);
  }

  #encode(samples: Int16Array): void {
    const audio = new AudioData({
      format: "s16",
      sampleRate: this.#rateHz,
      numberOfFrames: samples.length,
      numberOfChannels: 1,
      timestamp: Math.round((this.#given * 1e6) / this.#rateHz),
      data: samples as Int16Array<ArrayBuffer>,
    });
    this.#given += samples.length;
    this.#encoder.encode(audio);
    audio.close();
  }

  #take(chunk: EncodedAudioChunk, metadata?: EncodedAudioChunkMetadata): void {
    if (!this.#coded) this.#preSkip = preSkip(metadata, this.#rateHz);
    const packet = new Uint8Array(chunk.byteLength);
    chunk.copyTo(packet);
    this.#packets.push(packet);
    this.#coded += FRAME_48K;
    if (this.#packets.length === PAGE_PACKETS && !this.#ending) this.#write(this.#packets.splice(0), this.#coded);
  }

  /** Brings out what the encoder still has with silence, and leaves out the silence. */
  async #finish(): Promise<void> {
    const given = this.#given48;
    const silence = FRAME_48K - (given % FRAME_48K) + FRAME_48K;
    this.#encode(new Int16Array(Math.ceil((silence * this.#rateHz) / 48_000)));
    try {
      await this.#encoder.flush();
    } catch (cause) {
      this.#fail(`The browser's Opus encoder has failed. ${INSTEAD}.`, cause);
      return;
    }
    const end = this.#preSkip + given;
    const rest = this.#packets.slice(0, Math.ceil((end - this.#written) / FRAME_48K));
    while (rest.length) {
      const page = rest.splice(0, PAGE_PACKETS);
      const last = !rest.length;
      this.#write(page, last ? end : this.#written + page.length * FRAME_48K, last);
    }
  }

  #write(packets: Uint8Array[], granule: number, last = false): void {
    const heads = this.#written
      ? []
      : [
          this.#pages.page([opusHead(this.#preSkip, this.#rateHz)], 0),
          this.#pages.page([opusTags("antiphon")], 0),
        ];
    const audio = Math.max(0, granule - this.#preSkip) - Math.max(0, this.#written - this.#preSkip);
    this.#written = granule;
    this.#onData(joined([...heads, this.#pages.page(packets, granule, last)]), audio / 48);
  }

  /** The first reason is the one that counts. */
  #fail(words: string, cause?: unknown): CallError {
    this.#over ??= new CallError("UNSUPPORTED", words, { cause });
    if (this.#encoder.state !== "closed") this.#encoder.close();
    return this.#over;
  }
}

/** What to leave out at the beginning. Chromium tells libopus's lookahead as it is: at the rate of what it encodes. */
function preSkip(metadata: EncodedAudioChunkMetadata | undefined, rateHz: number): number {
  const head = metadata?.decoderConfig?.description;
  if (!head) return LOOKAHEAD_48K;
  const view = ArrayBuffer.isView(head) ? new DataView(head.buffer, head.byteOffset) : new DataView(head);
  const told = view.getUint16(10, true);
  return told * 48_000 === LOOKAHEAD_48K * rateHz ? LOOKAHEAD_48K : told;
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
