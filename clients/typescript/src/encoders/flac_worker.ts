// What runs in a Worker: libFLAC, compiled to plain JavaScript, since a strict policy allows no WebAssembly.
import * as Flac from "libflacjs/dist/libflac.js";

/** Told to the worker: first how, then what; `end` gives the rest. */
export type FlacCommand =
  | { type: "begin"; rateHz: number; level: number; blockSamples: number }
  | { type: "encode"; samples: Int16Array }
  | { type: "end" };

/** Told by it; `samples` is how many the bytes are. */
export type FlacReport =
  | { type: "begun" }
  | { type: "data"; bytes: Uint8Array<ArrayBuffer>; samples: number }
  | { type: "ended" }
  | { type: "failed"; words: string };

const scope = globalThis as unknown as {
  onmessage: (event: MessageEvent<FlacCommand>) => void;
  postMessage(report: FlacReport, transfer?: Transferable[]): void;
};

let encoder = 0;

function begin(rateHz: number, level: number, blockSamples: number): void {
  encoder = Flac.create_libflac_encoder(rateHz, 1, 16, level as Flac.CompressionLevel, 0, false, blockSamples);
  const status = encoder ? Flac.init_encoder_stream(encoder, write) : -1;
  if (status !== 0) return fail(`libFLAC does not encode ${rateHz} Hz (${status}).`);
  scope.postMessage({ type: "begun" });
}

function write(data: Uint8Array, _bytes: number, samples: number): void {
  const bytes = data.slice();
  scope.postMessage({ type: "data", bytes, samples }, [bytes.buffer]);
}

function encode(samples: Int16Array): void {
  const taken = Flac.FLAC__stream_encoder_process_interleaved(encoder, Int32Array.from(samples), samples.length);
  if (!taken) fail(`libFLAC took no more (${Flac.FLAC__stream_encoder_get_state(encoder)}).`);
}

function end(): void {
  const finished = Flac.FLAC__stream_encoder_finish(encoder);
  Flac.FLAC__stream_encoder_delete(encoder);
  if (finished) scope.postMessage({ type: "ended" });
  else fail("libFLAC could not end the stream.");
}

function fail(words: string): void {
  scope.postMessage({ type: "failed", words });
}

scope.onmessage = ({ data }) => {
  switch (data.type) {
    case "begin": {
      const { rateHz, level, blockSamples } = data;
      if (Flac.isReady()) return begin(rateHz, level, blockSamples);
      return Flac.on("ready", () => begin(rateHz, level, blockSamples));
    }
    case "encode":
      return encode(data.samples);
    case "end":
      return end();
  }
};
