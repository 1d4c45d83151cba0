export const LEVEL_EVERY_MS = 50;
const MOST = 12_000; // ten minutes

/** The loudness of both sides over the last ten minutes: what the waveform is drawn from. */
export class LevelHistory {
  readonly #at = new Float64Array(MOST);
  readonly #levels = new Uint8Array(2 * MOST);
  #count = 0;

  /** Levels are root mean squares, 0 to 1. */
  push(at: number, input: number, output: number): void {
    this.pushLoudness(at, Math.round(255 * loudness(input)), Math.round(255 * loudness(output)));
  }

  pushLoudness(at: number, input: number, output: number): void {
    const place = this.#count++ % MOST;
    this.#at[place] = at;
    this.#levels[2 * place] = input;
    this.#levels[2 * place + 1] = output;
  }

  get lastAt(): number {
    return this.#count ? this.#at[(this.#count - 1) % MOST]! : 0;
  }

  /** Calls `visit` with the levels (0 to 1) of each moment in between, the latest first. */
  between(from: number, to: number, visit: (at: number, input: number, output: number) => void): void {
    for (let index = this.#count - 1; index >= Math.max(0, this.#count - MOST); index--) {
      const place = index % MOST;
      const at = this.#at[place]!;
      if (at < from) return;
      if (at <= to) visit(at, this.#levels[2 * place]! / 255, this.#levels[2 * place + 1]! / 255);
    }
  }

  clear(): void {
    this.#count = 0;
  }
}

const FLOOR_DB = -56;
const CEILING_DB = -9;

/** Where a level stands between two in dB, as 0 to 1; bent, so that the eye sees syllables. */
export function loudness(level: number): number {
  const db = 20 * Math.log10(level + 1e-9);
  return Math.max(0, Math.min(1, (db - FLOOR_DB) / (CEILING_DB - FLOOR_DB))) ** 1.25;
}
