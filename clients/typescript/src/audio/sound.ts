import { CallError } from "../errors.js";

/** How long a context may take to run after it was asked to. */
const RESUME_MS = 1000;
const RESUME_CHECK_MS = 20;
/** A clock that stands still for so long is frozen; it moves in steps of some 10 ms. */
const STILL_MS = 100;
const VOLUME_RAMP_S = 0.01;

export interface SoundOptions {
  /** Where "@antiphon/client/worklet.js" is served: a file of the page's own origin. */
  workletUrl?: string | URL;
  outputDeviceId?: string;
  /** 0 to 1. */
  volume?: number;
}

// What TypeScript's library does not know: of Chromium, and of Safari on iOS.
type SinkContext = AudioContext & { setSinkId?(sinkId: string): Promise<void> };
type AudioSessionNavigator = Navigator & { audioSession?: { type: string } };

/**
 * The browser's audio: one context, and the worklet in it. Make it inside a click, which is what lets it be heard; what
 * is to be played is connected to `volume`, and what is recorded to `input`, for the levels.
 */
export class Sound {
  readonly context: AudioContext;
  /** Fulfilled once the worklet is there. `load()` brings it, and says why it cannot. */
  readonly ready: Promise<void>;
  readonly input: AnalyserNode;
  readonly output: AnalyserNode;
  readonly volume: GainNode;
  readonly #workletUrl: string | URL;
  readonly #madeAt = performance.now();
  #loading: Promise<void> | undefined;
  #loaded!: () => void;
  #seen: { audioS: number; wallMs: number };

  /** There has to be an AudioContext, as browsers have. */
  constructor({ workletUrl, outputDeviceId, volume = 1 }: SoundOptions = {}) {
    // Without this iOS plays through the earpiece, or records nothing.
    const session = (navigator as AudioSessionNavigator).audioSession;
    if (session) session.type = "play-and-record";
    // At the device's own rate: Firefox refuses a microphone of another, and the worklet resamples anyway.
    this.context = new AudioContext({ latencyHint: "interactive" });
    void this.context.resume().catch(() => {}); // it was closed meanwhile
    this.input = new AnalyserNode(this.context, { fftSize: 1024 });
    this.output = new AnalyserNode(this.context, { fftSize: 1024 });
    this.volume = new GainNode(this.context, { gain: clamped(volume) });
    this.volume.connect(this.output).connect(this.context.destination);
    this.#workletUrl = workletUrl ?? new URL("../worklet.js", import.meta.url);
    this.ready = new Promise((resolve) => (this.#loaded = resolve));
    this.#seen = { audioS: this.context.currentTime, wallMs: this.#madeAt };
    // A device that is gone is no reason not to be heard on the usual one.
    if (outputDeviceId) void this.setOutputDevice(outputDeviceId).catch(() => {});
  }

  /** Loads the worklet, once. After it has failed it may be tried again. Raises CallError UNSUPPORTED. */
  load(): Promise<void> {
    this.#loading ??= this.#load().catch((error: unknown) => {
      this.#loading = undefined;
      throw error;
    });
    return this.#loading;
  }

  async #load(): Promise<void> {
    if (!this.context.audioWorklet) {
      const words = isSecureContext
        ? "This browser has no AudioWorklet: use a current one."
        : "Browsers give audio only to pages over https, or at http://localhost.";
      throw new CallError("UNSUPPORTED", words);
    }
    try {
      await this.context.audioWorklet.addModule(this.#workletUrl);
    } catch (cause) {
      const words = `No audio worklet at ${this.#workletUrl}: serve "@antiphon/client/worklet.js" there, or set workletUrl.`;
      throw new CallError("UNSUPPORTED", words, { cause });
    }
    this.#loaded();
  }

  /**
   * Whether it goes on, or can: one that is suspended holds what waits in it. On iOS a context can be "running" and stand
   * still: then only another one helps.
   */
  get alive(): boolean {
    const seen = this.#seen;
    const now = { audioS: this.context.currentTime, wallMs: performance.now() };
    if (now.audioS > seen.audioS) this.#seen = now;
    if (now.wallMs - this.#madeAt < RESUME_MS) return true; // it may not have begun to run
    if (this.context.state !== "running") return this.context.state === "suspended";
    return now.audioS > seen.audioS || now.wallMs - seen.wallMs < STILL_MS;
  }

  /** Asks the browser to let it be heard, which it does within a click; returns whether it can be. */
  async resume(): Promise<boolean> {
    const { context } = this;
    if (context.state === "closed") return false;
    const from = context.currentTime;
    void context.resume().catch(() => {}); // it waits for a click, which may never come
    const until = performance.now() + RESUME_MS;
    while (context.currentTime === from && performance.now() < until) await sleep(RESUME_CHECK_MS);
    return context.state === "running" && context.currentTime > from;
  }

  setVolume(volume: number): void {
    this.volume.gain.setTargetAtTime(clamped(volume), this.context.currentTime, VOLUME_RAMP_S);
  }

  /**
   * Plays on another device; "" is the usual one. A browser may cancel the echo of the usual one only: prefer
   * headphones on others. Raises CallError UNSUPPORTED where a page cannot choose, and what the browser says of a
   * device that it does not know.
   */
  async setOutputDevice(deviceId: string): Promise<void> {
    const context: SinkContext = this.context;
    if (!context.setSinkId) {
      if (!deviceId) return;
      throw new CallError("UNSUPPORTED", "Here the output is chosen in the system's settings.");
    }
    await context.setSinkId(deviceId);
  }

  /** The level of what is said and of what is heard now, RMS, 0 to 1. */
  levels(): { input: number; output: number } {
    if (this.context.state !== "running") return { input: 0, output: 0 };
    return { input: level(this.input), output: level(this.output) };
  }

  /** performance.now() at which a time of the context is rendered, to some 10 ms. */
  renderedAt(contextS: number): number {
    return performance.now() + 1000 * (contextS - this.context.currentTime);
  }

  async close(): Promise<void> {
    if (this.context.state !== "closed") await this.context.close();
  }
}

function clamped(volume: number): number {
  return Math.max(0, Math.min(volume, 1));
}

function level(analyser: AnalyserNode): number {
  const samples = new Float32Array(analyser.fftSize);
  analyser.getFloatTimeDomainData(samples);
  return Math.min(1, Math.sqrt(samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length));
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
