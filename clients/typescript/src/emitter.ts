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
    return (this.#listeners.get(type)?.size ?? 0) > 0 || [...this.#iterators].some((queue) => queue.types?.has(type));
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
  iterate(types?: CallEventType[]): AsyncIterableIterator<any> {
    const queue = new EventQueue(types?.length ? new Set(types) : undefined, () => this.#iterators.delete(queue));
    for (const event of this.#early ?? []) queue.push(event);
    this.#early = undefined;
    if (this.#ended) queue.end();
    else this.#iterators.add(queue);
    return queue;
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
class EventQueue implements AsyncIterableIterator<CallEvent> {
  #waiting: CallEvent[] = [];
  #takers: { resolve: (result: IteratorResult<CallEvent>) => void; reject: (error: CallError) => void }[] = [];
  #over = false;
  #missed = false;

  constructor(
    readonly types: Set<CallEventType> | undefined,
    readonly onReturn: () => void,
  ) {}

  push(event: CallEvent): void {
    if (this.#over || !(this.types ? this.types.has(event.type) : event.type !== "wire")) return;
    const taker = this.#takers.shift();
    if (taker) return taker.resolve({ value: event, done: false });
    this.#waiting.push(event);
    if (this.#waiting.length <= MOST_WAITING) return;
    this.#missed = this.#over = true;
    this.#waiting = [];
    this.onReturn();
  }

  end(): void {
    this.#over = true;
    for (const taker of this.#takers.splice(0)) taker.resolve({ value: undefined, done: true });
  }

  next(): Promise<IteratorResult<CallEvent>> {
    if (this.#missed) {
      this.#missed = false;
      const text = `More than ${MOST_WAITING} events waited to be iterated over.`;
      return Promise.reject(new CallError("EVENTS_MISSED", text));
    }
    const event = this.#waiting.shift();
    if (event) return Promise.resolve({ value: event, done: false });
    if (this.#over) return Promise.resolve({ value: undefined, done: true });
    return new Promise((resolve, reject) => this.#takers.push({ resolve, reject }));
  }

  return(): Promise<IteratorResult<CallEvent>> {
    this.#waiting = [];
    this.onReturn();
    this.end();
    return Promise.resolve({ value: undefined, done: true });
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<CallEvent> {
    return this;
  }
}
