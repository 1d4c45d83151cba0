/** Samples at the output's rate that are to be put out next, and whose they are. */
export class Ready<Owner> {
  #samples = new Float32Array(4096);
  #count = 0;
  /** Whose the samples are, in order; together `count`. */
  #spans: { owner: Owner; count: number }[] = [];

  get count(): number {
    return this.#count;
  }

  append(samples: Float32Array, owner: Owner): void {
    if (this.#count + samples.length > this.#samples.length) {
      const larger = new Float32Array(2 * (this.#count + samples.length));
      larger.set(this.#samples);
      this.#samples = larger;
    }
    this.#samples.set(samples, this.#count);
    this.#count += samples.length;
    const last = this.#spans.at(-1);
    if (last?.owner === owner) last.count += samples.length;
    else if (samples.length) this.#spans.push({ owner, count: samples.length });
  }

  at(index: number): number {
    return this.#samples[index]!;
  }

  /** Removes the first `count`, telling in order whose they were. */
  take(count: number, onTaken: (owner: Owner, count: number) => void): void {
    this.#samples.copyWithin(0, count, this.#count);
    this.#count -= count;
    while (count) {
      const span = this.#spans[0]!;
      const part = Math.min(count, span.count);
      count -= part;
      span.count -= part;
      if (!span.count) this.#spans.shift();
      onTaken(span.owner, part);
    }
  }

  /** Drops all but the first `count`. */
  truncate(count: number): void {
    this.#count = Math.min(count, this.#count);
    let rest = this.#count;
    for (const span of this.#spans) {
      span.count = Math.min(span.count, rest);
      rest -= span.count;
    }
    this.#spans = this.#spans.filter((span) => span.count);
  }
}
