import { CAPTURE_RATE_HZ } from "../rates.js";
import { Resampler } from "./resampler.js";
import { scope } from "./scope.js";

/** `AudioWorkletNodeOptions.processorOptions` of "capture". */
export interface CaptureOptions {
  /** How long a chunk is, in samples at 16 kHz: 640 by default, which is 40 ms. */
  chunkSamples?: number;
}

/** Told to the processor: to post what it still has, and to end. */
export type CaptureCommand = "end";

/** Posted by it: mono at 16 kHz, `frame` being where the first sample falls in the context's time; at last `ended`. */
export type CaptureReport = { type: "chunk"; samples: Int16Array<ArrayBuffer>; frame: number } | { type: "ended" };

/** Posts what it hears, to the last sample, and puts nothing out. */
export class Capture extends scope.AudioWorkletProcessor {
  readonly #resampler = new Resampler(Math.round(scope.sampleRate), CAPTURE_RATE_HZ);
  readonly #chunk: Int16Array<ArrayBuffer>;
  #filled = 0;
  /** Where the first sample of the chunk was heard. */
  #frame = 0;
  #heard = 0;
  #resampled = 0;
  #ended = false;

  constructor(options: { processorOptions?: CaptureOptions }) {
    super(options);
    this.#chunk = new Int16Array(options.processorOptions?.chunkSamples ?? 640);
    this.port.onmessage = () => this.#end();
  }

  process(inputs: Float32Array[][]): boolean {
    const samples = inputs[0]?.[0]; // none while nothing is connected
    if (samples && !this.#ended) {
      const resampled = this.#resampler.push(samples);
      // A source that pauses moves all that follows.
      this.#take(resampled, scope.currentFrame - this.#heard);
      this.#heard += samples.length;
    }
    return !this.#ended;
  }

  /** `origin` is the frame at which the first sample of all would have been heard, had none been left out. */
  #take(samples: Float32Array, origin: number): void {
    for (const sample of samples) {
      if (!this.#filled) this.#frame = origin + (this.#resampled * scope.sampleRate) / CAPTURE_RATE_HZ;
      this.#resampled++;
      this.#chunk[this.#filled++] = Math.round(Math.max(-1, Math.min(sample, 1)) * 32767);
      if (this.#filled === this.#chunk.length) this.#post();
    }
  }

  #post(): void {
    const samples = this.#chunk.slice(0, this.#filled);
    this.#filled = 0;
    this.#tell({ type: "chunk", samples, frame: this.#frame }, [samples.buffer]);
  }

  #end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#take(this.#resampler.flush(), scope.currentFrame - this.#heard);
    if (this.#filled) this.#post();
    this.#tell({ type: "ended" });
  }

  #tell(report: CaptureReport, transfer: Transferable[] = []): void {
    this.port.postMessage(report, transfer);
  }
}
