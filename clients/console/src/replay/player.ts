import { batch, signal, type Signal } from "@preact/signals";
import { Session } from "../state/session.js";
import type { Recording } from "./recording.js";

export const SPEEDS = [1, 2, 4, 8] as const;

/** Shows a recorded session again, as fast as one likes. */
export class ReplayPlayer {
  readonly recording: Recording;
  readonly name: string;
  readonly session = signal(new Session());
  /** Where it is, on the clock of the recording. */
  readonly position: Signal<number>;
  readonly playing = signal(false);
  readonly speed = signal<number>(1);

  #next = 0;
  #nextLevel = 0;
  #frame = 0;
  #steppedAt = 0;

  constructor(recording: Recording, name: string) {
    this.recording = recording;
    this.name = name;
    this.position = signal(recording.from);
    this.seek(recording.to);
  }

  play(): void {
    if (this.playing.value) return;
    if (this.position.value >= this.recording.to) this.seek(this.recording.from);
    this.playing.value = true;
    this.#steppedAt = performance.now();
    this.#frame = requestAnimationFrame(this.#step);
  }

  pause(): void {
    cancelAnimationFrame(this.#frame);
    this.playing.value = false;
  }

  /** Shows how it was then. Backwards it is told again from the beginning. */
  seek(position: number): void {
    batch(() => {
      if (position < this.position.value) {
        this.#next = this.#nextLevel = 0;
        this.session.value = new Session();
      }
      this.#feedTo(position);
    });
  }

  readonly #step = (): void => {
    const now = performance.now();
    this.#feedTo(this.position.value + (now - this.#steppedAt) * this.speed.value);
    this.#steppedAt = now;
    if (this.position.value >= this.recording.to) this.pause();
    else this.#frame = requestAnimationFrame(this.#step);
  };

  #feedTo(position: number): void {
    const { events, levels, to } = this.recording;
    const session = this.session.peek();
    for (let next = events[this.#next]; next && next.at <= position; next = events[++this.#next]) {
      session.feed(next.at, next.event);
    }
    for (let next = levels[this.#nextLevel]; next && next[0] <= position; next = levels[++this.#nextLevel]) {
      session.levels.pushLoudness(...next);
    }
    this.position.value = Math.min(position, to);
  }
}
