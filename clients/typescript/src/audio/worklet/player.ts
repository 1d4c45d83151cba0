import { Ready } from "./ready.js";
import { Resampler } from "./resampler.js";
import { scope } from "./scope.js";

const FADE_S = 0.005;
const PREBUFFER_S = { least: 0.06, most: 0.2, step: 0.04 };
/** A piece that comes so soon after its response fell silent was late, and a longer prebuffer would have helped. */
const LATE_S = 0.4;
const MOST_QUEUED_S = 120;
const PROGRESS_S = 0.25;
const STEP_SAMPLES = 128;

/** Told to the player. Responses are numbered from 1 in the order in which they begin. */
export type PlayerCommand =
  | { type: "piece"; response: number; samples: Int16Array<ArrayBuffer>; rateHz: number }
  /** Be silent, and forget the responses up to `through`, what is still to come of them included. */
  | { type: "flush"; id: number; through: number };

/**
 * Posted by it. Times are in milliseconds of the response's audio; played is what has left the player.
 *
 * - `started`: a response is heard from `frame` of the context's time on; told again, with `playedMs` > 0, after a gap
 * - `ended`: the response is silent: all that is here of it was played, or it was flushed
 * - `flushed`: it is silent now. `response` is the one that was heard or was to be heard next (0: none ever was),
 *   `droppedMs` what was here of all and is not going to be played
 * - `overflow`: so much came beyond the 120 s that may wait, and was dropped
 */
export type PlayerReport =
  | { type: "started"; response: number; frame: number; playedMs: number }
  | { type: "progress"; response: number; playedMs: number }
  | { type: "ended"; response: number; playedMs: number }
  | { type: "flushed"; id: number; response: number; playedMs: number; droppedMs: number }
  | { type: "overflow"; response: number; ms: number };

interface Response {
  readonly number: number;
  acceptedS: number;
  playedFrames: number;
}

interface Piece {
  readonly response: Response;
  samples: Int16Array;
  readonly rateHz: number;
}

interface Flush {
  readonly id: number;
  readonly through: number;
  readonly response: Response;
}

/**
 * Plays the pieces it is sent without a gap between them and without a click where they run out: every start and end
 * is a ramp of 5 ms, and no sample is lost to a piece that comes late. Flushed, it is silent after 5 ms.
 *
 * It begins once 60 ms are there, or after 60 ms for a response that is shorter; each piece that comes late makes that
 * 40 ms more, up to 200 ms, and each response that follows 10 ms less.
 */
export class Player extends scope.AudioWorkletProcessor {
  #queue: Piece[] = [];
  #queuedS = 0;
  /** Those that are not over, by number. */
  #responses = new Map<number, Response>();
  #flushedThrough = 0;
  #flushes: Flush[] = [];

  #resampler = new Resampler(1, 1);
  #rateHz = 0;
  /** Whose samples the resampler holds. */
  #resampled: Response | undefined;
  readonly #ready = new Ready<Response>();
  readonly #fade = Math.round(FADE_S * scope.sampleRate);
  #gain = 0;

  #playing = false;
  /** No more is made ready: after what is, there is silence. */
  #ending = false;
  #heard: Response | undefined;
  #sinceProgress = 0;
  #prebufferS = PREBUFFER_S.least;
  #waitedS = 0;
  #silentS = Infinity;

  constructor() {
    super();
    this.port.onmessage = ({ data }: MessageEvent<PlayerCommand>) => {
      if (data.type === "flush") this.#flush(data.id, data.through);
      else this.#enqueue(data.response, data.samples, data.rateHz);
    };
  }

  process(_inputs: Float32Array[][], outputs: Float32Array[][]): boolean {
    const output = outputs[0]![0]!;
    const blockS = output.length / scope.sampleRate;
    if (this.#playing) this.#render(output);
    else if (this.#queue.length) this.#maybeStart(output, blockS);
    else this.#silentS += blockS;
    return true;
  }

  #enqueue(number: number, samples: Int16Array, rateHz: number): void {
    if (number <= this.#flushedThrough || !samples.length) return;
    const lengthS = samples.length / rateHz;
    if (this.#queuedS + lengthS > MOST_QUEUED_S) {
      this.#tell({ type: "overflow", response: number, ms: 1000 * lengthS });
      return;
    }
    let response = this.#responses.get(number);
    if (!response) this.#responses.set(number, (response = { number, acceptedS: 0, playedFrames: 0 }));
    if (!this.#playing && !this.#queue.length && response.playedFrames && this.#silentS < LATE_S) {
      this.#prebufferS = Math.min(PREBUFFER_S.most, this.#prebufferS + PREBUFFER_S.step);
    }
    response.acceptedS += lengthS;
    this.#queue.push({ response, samples, rateHz });
    this.#queuedS += lengthS;
  }

  /** Waits until enough is there, or until enough time has passed for an answer that is shorter. */
  #maybeStart(output: Float32Array, blockS: number): void {
    this.#waitedS += blockS;
    if (Math.max(this.#queuedS, this.#waitedS) < this.#prebufferS) return;
    if (!this.#queue[0]!.response.playedFrames) {
      this.#prebufferS = Math.max(PREBUFFER_S.least, this.#prebufferS - PREBUFFER_S.step / 4);
    }
    this.#playing = true;
    this.#gain = 0;
    this.#render(output);
  }

  #render(output: Float32Array): void {
    const ready = this.#ready;
    if (!this.#ending) this.#prepare(output.length + this.#fade);
    if (!this.#ending && ready.count <= output.length) {
      this.#finishResampling();
      this.#ending = true;
    }
    const count = Math.min(output.length, ready.count);
    const left = ready.count + (this.#ending ? 0 : this.#resampler.pending);
    for (let index = 0; index < count; index++) {
      const rising = left - index > this.#fade;
      this.#gain = rising ? Math.min(1, this.#gain + 1 / this.#fade) : Math.max(0, this.#gain - 1 / this.#fade);
      output[index] = ready.at(index) * this.#gain;
    }
    let frame = scope.currentFrame;
    ready.take(count, (response, frames) => {
      this.#count(response, frame, frames);
      frame += frames;
    });
    if (!ready.count && this.#ending) this.#fallSilent();
  }

  /** Resamples until `count` samples are ready or no more are here. */
  #prepare(count: number): void {
    while (this.#ready.count < count && this.#queue.length) {
      const piece = this.#queue[0]!;
      if (piece.response !== this.#resampled || piece.rateHz !== this.#rateHz) {
        this.#finishResampling();
        this.#resampled = piece.response;
      }
      if (piece.rateHz !== this.#rateHz) {
        this.#rateHz = piece.rateHz;
        this.#resampler = new Resampler(piece.rateHz, Math.round(scope.sampleRate));
      }
      const samples = piece.samples.subarray(0, STEP_SAMPLES);
      piece.samples = piece.samples.subarray(samples.length);
      if (!piece.samples.length) this.#queue.shift();
      this.#queuedS = this.#queue.length ? this.#queuedS - samples.length / piece.rateHz : 0;
      const floats = Float32Array.from(samples, (sample) => sample / 32768);
      this.#ready.append(this.#resampler.push(floats), piece.response);
    }
  }

  /** Makes ready what the resampler still holds. */
  #finishResampling(): void {
    if (this.#resampled) this.#ready.append(this.#resampler.flush(), this.#resampled);
    this.#resampled = undefined;
  }

  /** So many samples of a response are put out, from a frame on. */
  #count(response: Response, frame: number, frames: number): void {
    if (response !== this.#heard) {
      this.#tellEnded();
      this.#heard = response;
      this.#sinceProgress = 0;
      this.#tell({ type: "started", response: response.number, frame, playedMs: playedMs(response) });
      for (const number of this.#responses.keys()) if (number < response.number) this.#responses.delete(number);
    }
    response.playedFrames += frames;
    this.#sinceProgress += frames;
    if (this.#sinceProgress < PROGRESS_S * scope.sampleRate) return;
    this.#sinceProgress = 0;
    this.#tell({ type: "progress", response: response.number, playedMs: playedMs(response) });
  }

  #flush(id: number, through: number): void {
    const next = this.#heard ?? this.#queue[0]?.response ?? this.#responses.get(through);
    this.#flushes.push({ id, through, response: next ?? { number: through, acceptedS: 0, playedFrames: 0 } });
    this.#flushedThrough = through;
    this.#queue = [];
    this.#queuedS = this.#waitedS = 0;
    this.#resampler.reset();
    this.#resampled = undefined;
    this.#ending = true;
    this.#ready.truncate(Math.round(this.#gain * this.#fade)); // what the ramp down takes
    if (!this.#ready.count) this.#fallSilent();
  }

  #fallSilent(): void {
    this.#playing = this.#ending = false;
    this.#gain = 0;
    this.#silentS = this.#waitedS = 0;
    this.#tellEnded();
    for (const { id, through, response } of this.#flushes.splice(0)) {
      let droppedMs = 0;
      for (const [number, dropped] of this.#responses) {
        if (number > through) continue;
        droppedMs += 1000 * dropped.acceptedS - playedMs(dropped);
        dropped.acceptedS = playedMs(dropped) / 1000; // the rest was never here, should it be flushed again
        if (number < through) this.#responses.delete(number);
      }
      this.#tell({ type: "flushed", id, response: response.number, playedMs: playedMs(response), droppedMs });
    }
  }

  #tellEnded(): void {
    const response = this.#heard;
    this.#heard = undefined;
    if (response) this.#tell({ type: "ended", response: response.number, playedMs: playedMs(response) });
  }

  #tell(report: PlayerReport): void {
    this.port.postMessage(report);
  }
}

/** A resampled end may be a fraction of a sample longer than what it was made of. */
function playedMs({ playedFrames, acceptedS }: Response): number {
  return 1000 * Math.min(playedFrames / scope.sampleRate, acceptedS);
}
