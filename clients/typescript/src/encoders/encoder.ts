/** What `audio_stream_start` calls it. */
export type StreamFormat = "LINEAR16" | "FLAC" | "audio/ogg;codecs=opus";

/** Encodes one audio stream: mono, 16 bit. */
export interface Encoder {
  /** Takes the next samples; what comes of them goes to `onData`, now or later and in order. */
  encode(samples: Int16Array): void;
  /** Ends the stream; all of it has gone to `onData` when it resolves. */
  end(): Promise<void>;
  /** Gives up, releasing what is held. */
  close(): void;
}

/** Makes encoders, one for each stream. */
export interface EncoderFactory {
  readonly format: StreamFormat;
  /** `onData` gets bytes, to be cut anywhere, and how many milliseconds of audio they are. */
  create(rateHz: number, onData: (data: Uint8Array, audioMs: number) => void): Promise<Encoder>;
}
