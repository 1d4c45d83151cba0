const ZERO_CROSSINGS = 32;
const BETA = 7.86;
const CUTOFF = 0.92;

/**
 * Converts a stream of samples from one rate to another, band-limited: a polyphase filter bank of Kaiser-windowed
 * sincs, 80 dB down from the lower Nyquist frequency on, flat up to 0.84 of it. Output is aligned with the input and
 * waits for 32 zero crossings of it, 2 ms at 16 kHz. Of n samples come ceil(n * toHz / fromHz).
 */
export class Resampler {
  /** One filter for each fraction of a sample that an output can fall on. */
  readonly #bank: Float32Array[];
  readonly #up: number;
  readonly #down: number;
  /** Input samples that an output needs on either side. */
  readonly #half: number;
  /** Samples not yet done with. */
  #input = new Float32Array(4096);
  #filled: number;
  #phase = 0;

  constructor(fromHz: number, toHz: number) {
    const divisor = greatestCommonDivisor(fromHz, toHz);
    this.#up = toHz / divisor;
    this.#down = fromHz / divisor;
    const cutoff = Math.min(1, toHz / fromHz) * CUTOFF;
    this.#half = fromHz === toHz ? 0 : Math.ceil(ZERO_CROSSINGS / cutoff);
    this.#bank = fromHz === toHz ? [] : design(cutoff, this.#half, this.#up);
    this.#filled = this.#half; // silence before the beginning
  }

  /** How many samples `flush()` would return. */
  get pending(): number {
    return Math.max(0, Math.ceil(((this.#filled - this.#half) * this.#up - this.#phase) / this.#down));
  }

  /** Returns the samples that are certain after `samples`; they are valid until the next call. */
  push(samples: Float32Array): Float32Array {
    if (this.#up === this.#down) return samples;
    this.#append(samples);
    const input = this.#input;
    const span = 2 * this.#half + 1;
    const output = new Float32Array(Math.ceil(((this.#filled + 1) * this.#up) / this.#down));
    let count = 0;
    let start = 0;
    while (start + span <= this.#filled) {
      const weights = this.#bank[this.#phase]!;
      let sum = 0;
      for (let tap = 0; tap < span; tap++) sum += weights[tap]! * input[start + tap]!;
      output[count++] = sum;
      this.#phase += this.#down;
      start += Math.floor(this.#phase / this.#up);
      this.#phase %= this.#up;
    }
    input.copyWithin(0, start, this.#filled);
    this.#filled -= start;
    return output.subarray(0, count);
  }

  /** Returns the rest of a stream that has ended. What is pushed then begins another. */
  flush(): Float32Array {
    const rest = this.push(new Float32Array(this.#half));
    this.reset();
    return rest;
  }

  /** Forgets what it holds. What is pushed then begins another stream. */
  reset(): void {
    this.#input.fill(0, 0, this.#half);
    this.#filled = this.#half;
    this.#phase = 0;
  }

  #append(samples: Float32Array): void {
    if (this.#filled + samples.length > this.#input.length) {
      const larger = new Float32Array(2 * (this.#filled + samples.length));
      larger.set(this.#input);
      this.#input = larger;
    }
    this.#input.set(samples, this.#filled);
    this.#filled += samples.length;
  }
}

function design(cutoff: number, half: number, phases: number): Float32Array[] {
  const bank: Float32Array[] = [];
  for (let phase = 0; phase < phases; phase++) {
    const weights = new Float32Array(2 * half + 1);
    let gain = 0;
    for (let tap = 0; tap < weights.length; tap++) {
      const distance = tap - half - phase / phases;
      const weight = sinc(cutoff * distance) * kaiser(distance / (half + 1), BETA);
      weights[tap] = weight;
      gain += weight;
    }
    bank.push(weights.map((weight) => weight / gain));
  }
  return bank;
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}

function sinc(x: number): number {
  return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
}

function kaiser(x: number, beta: number): number {
  return bessel0(beta * Math.sqrt(Math.max(0, 1 - x * x))) / bessel0(beta);
}

function bessel0(x: number): number {
  let sum = 1;
  let term = 1;
  for (let k = 1; term > 1e-9 * sum; k++) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}
