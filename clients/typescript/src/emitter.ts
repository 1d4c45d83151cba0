import { CallError } from "./errors.js";
import type { CallEvent, CallEventOf, CallEventType } from "./events.js";

const MOST_WAITING = 1000;
const MOST_EARLY = 100;

type Listener = (event: any) => void;

/** Hands events to listeners, at once, and to iterators, which have them wait. */
export class Emitter {
  #listeners = new Map<CallEventType, Set<Listener>>();
  #iterators = new Set<EventQueue>();
  // What came before anybody iterates: `await connect()` is over only after the first events.
  #early: CallEvent[] | undefined = [];
  #ended = false;

  on<T extends CallEventType>(type: T, listener: (event: CallEventOf<T>) => void): () => void {
    const listeners = this.#listeners.get(type) ?? new Set();
    this.#listeners.set(type, listeners.add(listener));
    return () => void listeners.delete(listener);
  }

  has(type: CallEventType): boolean {
    return (this.#listeners.get(type)?.size ?? 0) > 0 || [...this.#iterators].some(({ types }) => types.has(type));
  }

  emit(event: CallEvent): void {
    // What a listener throws is its own trouble: it must not end the call, and is told to whoever watches for that.
    for (const listener of [...(this.#listeners.get(event.type) ?? [])]) {
      try {
        listener(event);
      } catch (error) {
        queueMicrotask(() => {
          throw error;
        });
      }
    }
    for (const queue of this.#iterators) queue.push(event);
    if (this.#early && event.type !== "wire" && event.type !== "audio") {
      this.#early.push(event);
      if (this.#early.length > MOST_EARLY) this.#early.shift();
    }
  }

  /** Returns an iterator over events of these types, or over all but `wire`. It ends with the call. */
  iterate(types: CallEventType[] = []): AsyncGenerator<any, void> {
    const queue = new EventQueue(new Set(types));
    for (const event of this.#early ?? []) queue.push(event);
    this.#early = undefined;
    queue.over = this.#ended;
    this.#iterators.add(queue);
    return queue.drain(() => this.#iterators.delete(queue));
  }

  /** Ends the iterators, after what waits in them. */
  end(): void {
    this.#ended = true;
    for (const queue of this.#iterators) queue.end();
    this.#iterators.clear();
  }

  /** Begins anew, after `end()`. */
  begin(): void {
    this.#ended = false;
  }
}

/** The events that one iterator has not taken yet: at most 1,000, and then it is told that it is too slow. */
class EventQueue {
  over = false;
  #waiting: CallEvent[] = [];
  #missed = false;
  #wake: (() => void) | undefined;

  /** Without any type it takes all but `wire`. */
  constructor(readonly types: Set<CallEventType>) {}

  push(event: CallEvent): void {
    if (this.over || !(this.types.size ? this.types.has(event.type) : event.type !== "wire")) return;
    if (this.#waiting.push(event) > MOST_WAITING) {
      this.#waiting = [];
      this.#missed = this.over = true;
    }
    this.#wake?.();
  }

  end(): void {
    this.over = true;
    this.#wake?.();
  }

  async *drain(left: () => void): AsyncGenerator<CallEvent, void> {
    try {
      for (;;) {
        while (this.#waiting.length) yield this.#waiting.shift()!;
        if (this.#missed) {
          throw new CallError("EVENTS_MISSED", `More than ${MOST_WAITING} events waited.`);
        }
        if (this.over) return;
        await new Promise<void>((resolve) => (this.#wake = resolve));
      }
    } finally {
      this.over = true;
      left();
    }
  }
}
