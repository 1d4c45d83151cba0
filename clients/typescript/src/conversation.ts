import type { CallEvent, TranscriptEvent, TurnMetrics } from "./events.js";

const MOST_TURNS = 500;

/** What one side said at one time. */
export interface Turn {
  /** The `utteranceId`, which is the `responseId` where the model speaks; made unique over sessions. */
  id: string;
  role: "user" | "model";
  text: string;
  isFinal: boolean;
  typed: boolean;
  /** It was cut off: `text` is what was heard, `unheard` what the model had said beyond. */
  interrupted: boolean;
  unheard: string;
  command?: string;
  /** Date.now() */
  at: number;
  metrics?: TurnMetrics;
  playedMs?: number;
  droppedMs?: number;
}

/** What was said, as rows for a display: give it every event. It keeps the last 500 turns. */
export class Conversation {
  #turns: Turn[] = [];
  #session = 0;

  get turns(): readonly Turn[] {
    return this.#turns;
  }

  /** Takes an event; returns whether a turn has changed. Turns are replaced, never changed. */
  apply(event: CallEvent, now = Date.now()): boolean {
    switch (event.type) {
      case "connected":
        if (!event.recovered) this.#session++;
        return false;
      case "transcript":
        return this.#transcript(event, now);
      case "command":
        return this.#change(event.utteranceId, () => ({ command: event.name }));
      case "interrupted":
        return this.#change(event.responseId, () => ({ interrupted: true, playedMs: event.playedMs, droppedMs: event.droppedMs }));
      case "response":
        return event.status === "started" ? false : this.#change(event.responseId, () => ({ isFinal: true }));
      case "turn":
        return this.#change(event.metrics.responseId, () => ({ metrics: event.metrics }));
      default:
        return false;
    }
  }

  #transcript({ role, utteranceId, text, isFinal, typed }: TranscriptEvent, now: number): boolean {
    const changed = this.#change(utteranceId, (turn) => {
      const cut = role === "model" && turn.text.length > text.length && turn.text.startsWith(text.trimEnd());
      return { text, isFinal, unheard: cut ? turn.text.slice(text.trimEnd().length) : turn.unheard };
    });
    if (changed) {
      if (!text) this.#turns = this.#turns.filter(({ id, unheard }) => id !== this.#id(utteranceId) || unheard); // taken back
      return true;
    }
    if (!text) return false;
    const id = this.#id(utteranceId);
    const turn = { id, role, text, isFinal, typed: typed ?? false, interrupted: false, unheard: "", at: now };
    this.#turns = [...this.#turns, turn].slice(-MOST_TURNS);
    return true;
  }

  #id(utteranceId: string): string {
    return `${this.#session}.${utteranceId}`;
  }

  #change(utteranceId: string, change: (turn: Turn) => Partial<Turn>): boolean {
    const place = this.#turns.findLastIndex(({ id }) => id === this.#id(utteranceId));
    const turn = this.#turns[place];
    if (!turn) return false;
    this.#turns = this.#turns.with(place, { ...turn, ...change(turn) });
    return true;
  }
}
