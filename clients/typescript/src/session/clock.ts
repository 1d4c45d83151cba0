const KEPT_MS = 120_000;
const MOST_SAMPLES = 32;

interface Sample {
  at: number;
  rttMs: number;
  offsetMs: number;
}

/**
 * The gateway's clock, seen from here. The quickest of the round trips of the last two minutes says best how far apart the
 * clocks are: half of it is how far that may be off (RFC 5905, section 8, has the same).
 */
export class ClockEstimate {
  #samples: Sample[] = [];

  /** Notes a ping that was sent and answered at these times of our clock, the answer stamped by the gateway's. */
  add(sentAt: number, answeredAt: number, gatewayAt: number): void {
    const rttMs = answeredAt - sentAt;
    this.#samples.push({ at: answeredAt, rttMs, offsetMs: gatewayAt - (sentAt + answeredAt) / 2 });
    this.#samples = this.#samples.filter((sample) => sample.at > answeredAt - KEPT_MS).slice(-MOST_SAMPLES);
  }

  get #best(): Sample | undefined {
    return this.#samples.reduce<Sample | undefined>((best, one) => (best && best.rttMs <= one.rttMs ? best : one), undefined);
  }

  get known(): boolean {
    return this.#samples.length > 0;
  }

  /** The gateway's time less ours. */
  get offsetMs(): number {
    return this.#best?.offsetMs ?? 0;
  }

  get rttMs(): number {
    return this.#best?.rttMs ?? 0;
  }

  /** Forgets what another gateway's clock said. */
  reset(): void {
    this.#samples = [];
  }
}
