import type { Answers } from "./answers.js";
import type { CallEvent } from "./events.js";
import type { AudioResponseMessage } from "./messages.js";

const PAUSE_MS = 1000; // of an answer, after which what comes is another
const SILENCE_MS = 2000; // after which an answer is over

/** The answers of a base session, which has no brackets around them: where one begins and ends is found out here. */
export class BaseAnswers {
  readonly #answers: Answers;
  readonly #emit: (event: CallEvent) => void;
  #count = 0;
  #responseId = "";
  #text = "";
  #pieceAt = -Infinity;
  #over: ReturnType<typeof setTimeout> | undefined;

  constructor(answers: Answers, emit: (event: CallEvent) => void) {
    this.#answers = answers;
    this.#emit = emit;
  }

  /** Notes a piece before it is played. */
  take({ format, text }: AudioResponseMessage): void {
    const now = performance.now();
    if (now - this.#pieceAt > PAUSE_MS) this.#answers.hushed = false;
    this.#pieceAt = now;
    if (!this.#responseId) {
      this.#responseId = `r${++this.#count}`;
      this.#text = "";
      this.#answers.started({ responseId: this.#responseId, format });
    }
    if (text) {
      this.#text = appended(this.#text, text);
      this.#tell(this.#text, false);
    }
    clearTimeout(this.#over);
    this.#over = setTimeout(() => this.#finish(), SILENCE_MS);
  }

  /** The user's words are final: what comes now answers them. */
  userFinal(): void {
    this.#finish();
    this.#answers.hushed = false;
  }

  /** The user cuts the answer: the rest of it is not played. */
  async interrupt(): Promise<{ playedMs: number; droppedMs: number }> {
    this.#answers.hushed = true;
    const receiving = this.#responseId;
    const { responseId, playedMs, droppedMs } = await this.#answers.silence();
    const cut = responseId || receiving;
    if (cut) this.#emit({ type: "interrupted", responseId: cut, reason: "client", playedMs, droppedMs });
    return { playedMs, droppedMs };
  }

  /** The session is over. */
  end(): void {
    clearTimeout(this.#over);
    this.#responseId = "";
    this.#answers.hushed = false;
  }

  #finish(): void {
    clearTimeout(this.#over);
    const responseId = this.#responseId;
    if (!responseId) return;
    if (this.#text) this.#tell(this.#text.trim(), true);
    this.#responseId = "";
    this.#answers.done({ responseId, status: "completed" });
  }

  #tell(text: string, isFinal: boolean): void {
    this.#emit({ type: "transcript", role: "model", utteranceId: this.#responseId, text, isFinal });
  }
}

/** Text with a piece after it: as it comes, but for a space where a new sentence follows without one. */
function appended(text: string, piece: string): string {
  return /[.!?…]$/.test(text) && /^\p{L}/u.test(piece) ? `${text} ${piece}` : text + piece;
}
