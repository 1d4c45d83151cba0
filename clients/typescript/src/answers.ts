import type { CallEvent } from "./events.js";
import type { AudioFlushMessage, AudioResponseMessage, ResponseDoneMessage, ResponseStartedMessage } from "./messages.js";
import type { Outgoing } from "./session/outgoing.js";
import { fromBase64 } from "./session/frames.js";

const MARK_MS = 1000; // how often the gateway is told how much was heard

/** What plays: `Speaker`, or nothing. */
export interface Player {
  begin(responseId: string): void;
  play(responseId: string, samples: Int16Array, rateHz: number): void;
  flush(): Promise<{ responseId: string; playedMs: number; droppedMs: number }>;
}

export interface AnswersHost {
  readonly player: Player | undefined;
  readonly extended: boolean;
  emit(event: CallEvent): void;
  send(message: Outgoing): void;
  begun(responseId: string): void;
  /** The first piece of a response is here, sent at `timestamp` by the gateway's clock. */
  arrived(responseId: string, timestamp: number): void;
}

interface Response {
  id: string;
  rateHz: number | undefined;
  /** Half a sample, where a piece was cut within one. */
  odd: number | undefined;
  pieces: number;
  receivedMs: number;
  playedMs: number;
  markedMs: number;
}

/** The answers: which is spoken, how much of it was heard, and when it is cut. */
export class Answers {
  #host: AnswersHost;
  #responses = new Map<string, Response>(); // those that are not over, here or there
  #receiving: Response | undefined;
  #flushes = new Map<string, Promise<{ playedMs: number; droppedMs: number }>>();
  /** What comes is not played: the rest of an answer that was cut here only. */
  hushed = false;

  constructor(host: AnswersHost) {
    this.#host = host;
  }

  /** Whether an answer is coming. */
  get receiving(): boolean {
    return this.#receiving !== undefined;
  }

  started({ responseId, format }: Pick<ResponseStartedMessage, "responseId" | "format">): void {
    const rateHz = pcmRate(format);
    const response = { id: responseId, rateHz, odd: undefined, pieces: 0, receivedMs: 0, playedMs: 0, markedMs: 0 };
    this.#receiving = response;
    this.#responses.set(responseId, response);
    if (this.#responses.size > 16) this.#responses.delete(this.#responses.keys().next().value!);
    this.#host.player?.begin(responseId);
    this.#host.begun(responseId);
    this.#host.emit({ type: "response", responseId, status: "started" });
    if (rateHz === undefined) {
      const message = `An answer as ${format} cannot be played.`;
      this.#host.emit({ type: "error", code: "UNSUPPORTED", message });
    }
  }

  done({ responseId, status }: Pick<ResponseDoneMessage, "responseId" | "status">): void {
    if (this.#receiving?.id === responseId) this.#receiving = undefined;
    // What was heard of it is told first, and is known only when the loudspeaker has answered.
    const flush = this.#flushes.get(responseId);
    if (flush) return void flush.then(() => this.#host.emit({ type: "response", responseId, status }));
    this.#responses.delete(responseId);
    this.#host.emit({ type: "response", responseId, status });
  }

  /** Takes a piece that came as JSON. */
  message(message: AudioResponseMessage): void {
    const data = fromBase64(message.data);
    if (data) this.piece(data, message.timestamp);
  }

  /** Takes a piece of what is received. */
  piece(data: Uint8Array, timestamp: number): void {
    const response = this.#receiving;
    if (!response || response.rateHz === undefined || !data.length) return;
    if (++response.pieces === 1) this.#host.arrived(response.id, timestamp);
    const pcm = samples(response, data);
    const durationMs = (1000 * pcm.length) / response.rateHz;
    response.receivedMs += durationMs;
    const { id: responseId, rateHz } = response;
    this.#host.emit({ type: "audio", responseId, pcm, rateHz, durationMs });
    if (!this.hushed && !this.#flushes.has(responseId)) this.#host.player?.play(responseId, pcm, rateHz);
  }

  /** The gateway says that an answer is cut: drop what is queued, and tell how much was heard. */
  flushed({ responseId, reason }: AudioFlushMessage): void {
    if (this.#receiving?.id === responseId) this.#receiving = undefined;
    void this.#flush(responseId).then((heard) => {
      this.#mark(responseId, heard.playedMs, true);
      this.#responses.delete(responseId);
      this.#flushes.delete(responseId);
      this.#host.emit({ type: "interrupted", responseId, reason, ...heard });
    });
  }

  /** The user cuts the answer that is heard: silence at once, without asking anybody. */
  async interrupt(): Promise<{ playedMs: number; droppedMs: number }> {
    const response = [...this.#responses.values()].find(({ playedMs, receivedMs }) => playedMs < receivedMs) ?? this.#receiving;
    if (!response) return { playedMs: 0, droppedMs: 0 };
    const flush = this.#flush(response.id);
    this.#host.send({ type: "interrupt", responseId: response.id });
    return flush;
  }

  // ---- what the loudspeaker tells

  progress(responseId: string, playedMs: number): void {
    const response = this.#responses.get(responseId);
    if (!response || this.#flushes.has(responseId)) return;
    response.playedMs = playedMs;
    this.#mark(responseId, playedMs, playedMs >= response.receivedMs - 1);
  }

  /** Ends what a connection or a session that is over has left behind. */
  end(): void {
    this.#receiving = undefined;
    this.#responses.clear();
    this.#flushes.clear();
  }

  /** Silence, at once: returns what was heard. */
  async silence(): Promise<{ responseId: string; playedMs: number; droppedMs: number }> {
    return (await this.#host.player?.flush()) ?? { responseId: "", playedMs: 0, droppedMs: 0 };
  }

  // ---- within

  /** Drops what is queued of a response, once; returns what was heard of it. */
  #flush(responseId: string): Promise<{ playedMs: number; droppedMs: number }> {
    const under = this.#flushes.get(responseId);
    if (under) return under;
    const response = this.#responses.get(responseId);
    const flush = this.silence().then((flushed) => {
      const playedMs = (flushed.responseId === responseId ? flushed : response)?.playedMs ?? 0;
      return { playedMs, droppedMs: Math.max(0, (response?.receivedMs ?? 0) - playedMs) };
    });
    this.#flushes.set(responseId, flush);
    return flush;
  }

  /** Tells how much was heard: once a second, and `now` where that is all, or is waited for. */
  #mark(responseId: string, playedMs: number, now: boolean): void {
    const response = this.#responses.get(responseId);
    if (!response || !this.#host.extended || !this.#host.player) return;
    if (!now && playedMs < response.markedMs + MARK_MS) return;
    response.markedMs = playedMs;
    this.#host.send({ type: "playback_mark", responseId, playedMs: Math.round(playedMs * 1000) / 1000 });
  }
}

/** The rate of a MIME type of raw mono PCM16, or undefined for anything else. */
function pcmRate(format: string): number | undefined {
  const [type, ...parameters] = format.toLowerCase().split(";").map((part) => part.trim());
  const values = new Map(parameters.map((parameter) => parameter.split("=") as [string, string]));
  const rateHz = Number(values.get("rate"));
  const possible = Number.isInteger(rateHz) && rateHz >= 8000 && rateHz <= 96_000;
  return type === "audio/pcm" && Number(values.get("channels") ?? 1) === 1 && possible ? rateHz : undefined;
}

/** Returns the samples of a piece, with the half one that the piece before it left. */
function samples(response: Response, data: Uint8Array): Int16Array {
  const head = response.odd === undefined ? 0 : 1;
  const bytes = new Uint8Array((head + data.length) & ~1);
  if (head) bytes[0] = response.odd!;
  bytes.set(data.subarray(0, bytes.length - head), head);
  response.odd = (head + data.length) % 2 ? data.at(-1) : undefined;
  return new Int16Array(bytes.buffer);
}
