import type { Sound } from "./sound.js";
import type { PlayerCommand, PlayerReport } from "./worklet/player.js";

/** How long the player may take to answer a flush; a context that is suspended may not answer at all. */
const PATIENCE_MS = 300;
/** What waits for the worklet, as what waits in it. */
const MOST_WAITING_MS = 120_000;
const MOST_REMEMBERED = 32;
/** What two ways of telling when a frame is heard may differ by; more, and one of them is not to be believed. */
const MOST_APART_MS = 500;

export interface SpeakerListener {
  /**
   * A response is heard from `atMs` on: performance.now() at which it is at the loudspeaker, output latency included.
   * It is told again, with `playedMs` > 0, where the response goes on after a gap.
   */
  started(responseId: string, atMs: number, playedMs: number): void;
  /** Four times a second while it plays. */
  progress(responseId: string, playedMs: number): void;
  /** Nothing of it is heard any more: all that came was played, or it was flushed. */
  ended(responseId: string, playedMs: number): void;
  /** More than 120 s waited to be played: this much of what came was dropped. */
  dropped?(responseId: string, ms: number): void;
}

/** What became of what was to be heard; `responseId` is "" where nothing ever was. */
export interface Flushed {
  responseId: string;
  playedMs: number;
  droppedMs: number;
}

interface Response {
  /** "" where it is of a session that is over. */
  id: string;
  readonly number: number;
  playedMs: number;
  /** Given to the player. */
  sentMs: number;
}

/** Plays responses, in the order in which they begin. */
export class Speaker {
  readonly #sound: Sound;
  readonly #listener: SpeakerListener;
  /** The latest, in order. */
  readonly #responses: Response[] = [];
  readonly #flushes = new Map<number, (flushed: Flushed) => void>();
  #node: AudioWorkletNode | undefined;
  /** What was told before there was a player. */
  #waiting: PlayerCommand[] = [];
  #waitingMs = 0;
  #begun = 0;
  #flushedThrough = 0;
  #flushCount = 0;
  #heard: Response | undefined;
  #closed = false;

  /** It is heard once the worklet is loaded (`Sound.load`); what comes before waits. */
  constructor(sound: Sound, listener: SpeakerListener) {
    this.#sound = sound;
    this.#listener = listener;
    void sound.ready.then(() => this.#attach());
  }

  /** Another session begins, which counts its responses anew. What is heard of the one before is heard to its end. */
  forget(): void {
    for (const response of this.#responses) response.id = "";
  }

  /** A response begins: it is the one that a `flush` is about if nothing else is heard or waits. */
  begin(responseId: string): void {
    this.#response(responseId);
  }

  /** Plays the next piece of a response, mono. What comes of one that was flushed is dropped. */
  play(responseId: string, samples: Int16Array, rateHz: number): void {
    const response = this.#response(responseId);
    if (response.number <= this.#flushedThrough) return;
    const ms = (1000 * samples.length) / rateHz;
    if (!this.#node) {
      if (this.#waitingMs + ms > MOST_WAITING_MS) return this.#listener.dropped?.(responseId, ms);
      this.#waitingMs += ms;
    }
    response.sentMs += ms;
    this.#tell({ type: "piece", response: response.number, samples: Int16Array.from(samples), rateHz });
  }

  /**
   * Is silent after 5 ms, and drops all that waits. Resolves with what was really played of the response that was
   * heard, or was to be heard next, and with what was dropped of all. Of one that was heard `ended` is told before.
   */
  flush(): Promise<Flushed> {
    const through = (this.#flushedThrough = this.#begun);
    if (!this.#node) {
      this.#waiting = [];
      this.#waitingMs = 0;
      return Promise.resolve(this.#reckon(through));
    }
    const id = ++this.#flushCount;
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#flushes.get(id)?.(this.#reckon(through)), PATIENCE_MS);
      this.#flushes.set(id, (flushed) => {
        clearTimeout(timer);
        this.#flushes.delete(id);
        resolve(flushed);
      });
      this.#tell({ type: "flush", id, through });
    });
  }

  /** How much of a response was played, in milliseconds of its audio, as the player said last. */
  position(responseId: string): number {
    return this.#known(responseId)?.playedMs ?? 0;
  }

  /** Is silent for good, and tells nothing more. */
  close(): void {
    this.#closed = true;
    this.#waiting = [];
    this.#node?.port.close();
    this.#node?.disconnect();
    for (const resolve of [...this.#flushes.values()]) resolve(this.#reckon(this.#begun));
  }

  #attach(): void {
    if (this.#closed) return;
    this.#node = new AudioWorkletNode(this.#sound.context, "player", { numberOfInputs: 0, outputChannelCount: [1] });
    this.#node.port.onmessage = ({ data }: MessageEvent<PlayerReport>) => this.#report(data);
    this.#node.connect(this.#sound.volume);
    for (const command of this.#waiting.splice(0)) this.#tell(command);
  }

  #tell(command: PlayerCommand): void {
    if (this.#closed) return;
    if (!this.#node) this.#waiting.push(command);
    else this.#node.port.postMessage(command, command.type === "piece" ? [command.samples.buffer] : []);
  }

  #report(report: PlayerReport): void {
    const response = this.#responses.find(({ number }) => number === report.response);
    if (response && "playedMs" in report) response.playedMs = report.playedMs;
    if (report.type === "flushed") {
      const { playedMs, droppedMs } = report;
      this.#drop();
      this.#flushes.get(report.id)?.({ responseId: response?.id ?? "", playedMs, droppedMs });
    }
    if (!response) return;
    switch (report.type) {
      case "started": {
        const atMs = heardAt(this.#sound, report.frame / this.#sound.context.sampleRate);
        this.#heard = response;
        return this.#listener.started(response.id, atMs, report.playedMs);
      }
      case "progress":
        return this.#listener.progress(response.id, report.playedMs);
      case "ended":
        this.#heard = undefined;
        return this.#listener.ended(response.id, report.playedMs);
      case "overflow":
        response.sentMs -= report.ms;
        return this.#listener.dropped?.(response.id, report.ms);
    }
  }

  #known(id: string): Response | undefined {
    return this.#responses.find((response) => response.id === id);
  }

  #response(id: string): Response {
    const known = this.#known(id);
    if (known) return known;
    const response = { id, number: ++this.#begun, playedMs: 0, sentMs: 0 };
    this.#responses.push(response);
    if (this.#responses.length > MOST_REMEMBERED) this.#responses.shift();
    return response;
  }

  /** What became of all by what the player said last, where it does not answer. */
  #reckon(through: number): Flushed {
    const responses = this.#responses.filter(({ number }) => number <= through);
    const { id = "", playedMs = 0 } =
      this.#heard ?? responses.find((response) => response.sentMs > response.playedMs) ?? responses.at(-1) ?? {};
    const droppedMs = responses.reduce((sum, response) => sum + Math.max(0, response.sentMs - response.playedMs), 0);
    this.#drop();
    return { responseId: id, playedMs, droppedMs };
  }

  /** What was flushed is dropped once. */
  #drop(): void {
    for (const response of this.#responses) {
      if (response.number <= this.#flushedThrough) response.sentMs = response.playedMs;
    }
  }
}

/** performance.now() at which a time of the context is at the loudspeaker, as well as the browser knows. */
function heardAt(sound: Sound, contextS: number): number {
  const { outputLatency, baseLatency } = sound.context;
  const reckoned = sound.renderedAt(contextS) + 1000 * (outputLatency || baseLatency || 0);
  const { contextTime, performanceTime } = sound.context.getOutputTimestamp?.() ?? {};
  if (!contextTime || !performanceTime) return reckoned; // nothing was put out yet
  const told = performanceTime + 1000 * (contextS - contextTime);
  return Math.abs(told - reckoned) < MOST_APART_MS ? told : reckoned;
}
