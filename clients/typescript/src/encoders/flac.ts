import { CallError } from "../errors.js";
import type { Encoder, EncoderFactory } from "./encoder.js";
import type { FlacCommand, FlacReport } from "./flac_worker.js";

const BLOCKS_A_SECOND = 50;
const MOST_WAITING_S = 60;
/** A Worker takes a third of a second to load: it is kept for so long, should another stream follow. */
const SPARE_MS = 60_000;
const INSTEAD = "Use no encoder (LINEAR16)";

export interface FlacOptions {
  /** Where "@antiphon/client/flac_worker.js" is served: a file of the page's own origin. */
  workerUrl?: string | URL;
  /** How hard libFLAC tries: 0 to 8, 5 by default. */
  level?: number;
}

/**
 * Sends speech as FLAC, which loses nothing, encoded by libFLAC in a Worker that is loaded when it is needed. `create`
 * raises CallError UNSUPPORTED where there are no Workers, as in Node, or where it cannot be loaded.
 */
export function flac({ workerUrl, level = 5 }: FlacOptions = {}): EncoderFactory {
  const workers = new Workers(workerUrl);
  return {
    format: "FLAC",
    async create(rateHz, onData) {
      if (typeof Worker === "undefined") {
        throw new CallError("UNSUPPORTED", `FLAC is encoded in browsers only. ${INSTEAD} here.`);
      }
      const encoder = new FlacEncoder(workers, rateHz, onData);
      await encoder.begin(level);
      return encoder;
    },
  };
}

/** Makes Workers, and keeps at most one that has ended its stream. */
class Workers {
  readonly #url: string | URL | undefined;
  #spare: Worker | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(url: string | URL | undefined) {
    this.#url = url;
  }

  take(): Worker {
    const spare = this.#spare;
    this.#spare = undefined;
    clearTimeout(this.#timer);
    if (spare) return spare;
    // Bundlers know the Worker by this very form.
    return this.#url ? new Worker(this.#url) : new Worker(new URL("../flac_worker.js", import.meta.url));
  }

  keep(worker: Worker): void {
    this.#spare?.terminate();
    this.#spare = worker;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.take().terminate(), SPARE_MS);
  }
}

class FlacEncoder implements Encoder {
  readonly #workers: Workers;
  readonly #worker: Worker;
  readonly #rateHz: number;
  readonly #onData: (data: Uint8Array, audioMs: number) => void;
  /** Samples given to the Worker that have not come back. */
  #waiting = 0;
  #over: CallError | undefined;
  /** Who waits for the Worker to have begun or ended. */
  #settle: { resolve: () => void; reject: (error: CallError) => void } | undefined;

  constructor(workers: Workers, rateHz: number, onData: (data: Uint8Array, audioMs: number) => void) {
    this.#workers = workers;
    this.#worker = workers.take();
    this.#rateHz = rateHz;
    this.#onData = onData;
    this.#worker.onmessage = ({ data }: MessageEvent<FlacReport>) => this.#report(data);
    this.#worker.onerror = (event) => {
      event.preventDefault();
      const words = event.message
        ? `The FLAC worker has failed: ${event.message}. ${INSTEAD}.`
        : 'The FLAC worker could not be loaded: serve "@antiphon/client/flac_worker.js" ' +
          "as a file of the page's own origin, and name it with workerUrl.";
      this.#fail(words);
    };
  }

  begin(level: number): Promise<void> {
    const blockSamples = Math.round(this.#rateHz / BLOCKS_A_SECOND);
    return this.#settled({ type: "begin", rateHz: this.#rateHz, level, blockSamples });
  }

  encode(samples: Int16Array): void {
    if (this.#over) throw this.#over;
    this.#waiting += samples.length;
    if (this.#waiting > MOST_WAITING_S * this.#rateHz) {
      throw this.#fail(`This device encodes FLAC more slowly than it is spoken. ${INSTEAD}.`);
    }
    this.#tell({ type: "encode", samples: samples.slice() });
  }

  async end(): Promise<void> {
    if (this.#over) throw this.#over;
    await this.#settled({ type: "end" });
    this.#over = closed();
    this.#worker.onmessage = this.#worker.onerror = null;
    this.#workers.keep(this.#worker);
  }

  close(): void {
    if (!this.#over) this.#fail(closed());
  }

  #tell(command: FlacCommand): void {
    this.#worker.postMessage(command);
  }

  #settled(command: FlacCommand): Promise<void> {
    this.#tell(command);
    return new Promise((resolve, reject) => (this.#settle = { resolve, reject }));
  }

  #report(report: FlacReport): void {
    switch (report.type) {
      case "data":
        this.#waiting -= report.samples;
        return this.#onData(report.bytes, (1000 * report.samples) / this.#rateHz);
      case "begun":
      case "ended":
        return this.#settle?.resolve();
      case "failed":
        this.#fail(`${report.words} ${INSTEAD}.`);
    }
  }

  #fail(why: string | CallError): CallError {
    const error = typeof why === "string" ? new CallError("UNSUPPORTED", why) : why;
    this.#over ??= error;
    this.#worker.onmessage = this.#worker.onerror = null;
    this.#worker.terminate();
    this.#settle?.reject(error);
    return error;
  }
}

function closed(): CallError {
  return new CallError("UNSUPPORTED", "This FLAC encoder was closed: make another one for the next stream.");
}
