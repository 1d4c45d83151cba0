import { signal } from "@preact/signals";
import { Call } from "@antiphon/client";
import { loudness } from "../state/levels.js";
import { MICROPHONE_TROUBLE } from "../state/notices.js";
import { settings } from "../state/settings.js";
import { token } from "../state/token.js";
import { socketUrl } from "./options.js";

export interface Check {
  name: string;
  state: "running" | "ok" | "warn" | "bad" | "skipped";
  /** What was found, and what to do about it. */
  words: string;
}

export const checks = signal<readonly Check[]>([]);
export const running = signal(false);
/** While the microphone is listened to: how loud it is, 0 to 1. */
export const levelOfCheck = signal<number | undefined>(undefined);
/** While the user is asked whether he heard the tone: how he answers. */
export const hearing = signal<((heard: boolean) => void) | undefined>(undefined);

type Result = [state: Check["state"], words: string];

const LISTEN_MS = 3000;
const TONE_MS = 1200;
const TONE_HZ = 880;
const ASK_MS = 30_000;

/** Within a click: audio context and microphone need one. */
export async function runChecks(): Promise<void> {
  if (running.value) return;
  running.value = true;
  checks.value = [];
  const sound = new Sound();
  try {
    await check("Secure address", () => secureContext());
    await check("Browser", () => browser());
    await check("Gateway", gatewayReady);
    await check("Session", session);
    await check("Microphone", () => sound.open());
    await check("Level", () => sound.level());
    await check("Loudspeaker", () => sound.tone());
    await check("Echo", () => sound.echo());
  } finally {
    sound.close();
    levelOfCheck.value = hearing.value = undefined;
    running.value = false;
  }
}

async function check(name: string, run: () => Result | Promise<Result>): Promise<void> {
  const before = checks.value;
  checks.value = [...before, { name, state: "running", words: "trying…" }];
  let result: Result;
  try {
    result = await run();
  } catch (error) {
    result = ["bad", error instanceof Error ? error.message : String(error)];
  }
  checks.value = [...before, { name, state: result[0], words: result[1] }];
}

function secureContext(): Result {
  if (isSecureContext) return ["ok", "The browser lets this address have a microphone."];
  return ["bad", "The browser gives this address no microphone. Use https, or http://127.0.0.1 on the server’s machine."];
}

function browser(): Result {
  const missing = [
    typeof AudioWorkletNode === "undefined" && "AudioWorklet",
    typeof navigator.mediaDevices?.getUserMedia === "undefined" && "getUserMedia",
    typeof WebSocket === "undefined" && "WebSocket",
  ].filter(Boolean);
  if (!missing.length) return ["ok", "It has all that a conversation needs."];
  return ["bad", `It lacks ${missing.join(" and ")}. Use a current Chrome, Edge, Firefox or Safari.`];
}

async function gatewayReady(): Promise<Result> {
  try {
    const begun = performance.now();
    const answer = await fetch("readyz", { cache: "no-store", signal: AbortSignal.timeout(5000) });
    const took = Math.round(performance.now() - begun);
    if (answer.ok) return ["ok", `It is ready, and answers within ${took} ms.`];
    return ["bad", "It is not ready: it is starting, stopping, or has no model. Its log says which."];
  } catch {
    return ["bad", `Nothing answers at ${location.host}. Is the gateway running, and this device in its network?`];
  }
}

/** Opens a session beside the one that may be going on, to see that the token is good and how the clocks differ. */
async function session(): Promise<Result> {
  if (!token.value) return ["skipped", "There is no token: open the link that the gateway printed, or paste it."];
  const call = new Call({ url: socketUrl(), token: token.value, output: false, reconnect: false, base: settings.value.base });
  try {
    await call.connect();
    await pause(settings.value.base ? 0 : 1000); // pings go to and fro
    const { offsetMs, rttMs } = call.clock;
    if (!rttMs) return ["ok", `The token is good, for ${call.userId}.`];
    const offset = `The gateway’s clock is ${Math.abs(offsetMs).toFixed(1)} ms ${offsetMs < 0 ? "behind" : "ahead"}`;
    const words = `The token is good, for ${call.userId}. ${offset}, give or take ${(rttMs / 2).toFixed(1)} ms.`;
    if (rttMs > 300) return ["warn", `${words} The way to it takes ${Math.round(rttMs)} ms: answers will seem slow.`];
    return ["ok", words];
  } finally {
    await call.disconnect();
  }
}

class Sound {
  readonly #context = typeof AudioContext === "undefined" ? undefined : new AudioContext();
  readonly #media = navigator.mediaDevices?.getUserMedia({ audio: constraints() });
  #stream: MediaStream | undefined;
  #analyser: AnalyserNode | undefined;
  #echoDb: number | undefined;

  constructor() {
    this.#media?.catch(() => {}); // told of by open()
  }

  async open(): Promise<Result> {
    if (!this.#context || !this.#media) return ["skipped", "This browser has none for this page."];
    try {
      this.#stream = await this.#media;
    } catch (error) {
      return ["bad", microphoneWords(error as DOMException)];
    }
    await this.#context.resume();
    this.#analyser = new AnalyserNode(this.#context, { fftSize: 2048, smoothingTimeConstant: 0 });
    this.#context.createMediaStreamSource(this.#stream).connect(this.#analyser);
    const track = this.#stream.getAudioTracks()[0]!;
    const { sampleRate } = track.getSettings();
    const rate = sampleRate ? `, ${sampleRate / 1000} kHz` : "";
    if (track.muted) return ["warn", `${track.label} is muted by the device or the system: switch it on.`];
    const narrowband = sampleRate && sampleRate < 16_000;
    if (narrowband) return ["warn", `${track.label}${rate}: a telephone’s quality, as of a Bluetooth headset. Others are understood better.`];
    return ["ok", `${track.label}${rate}.`];
  }

  async level(): Promise<Result> {
    if (!this.#analyser) return ["skipped", "There is no microphone."];
    const samples = new Float32Array(this.#analyser.fftSize);
    let loudest = 0;
    const end = performance.now() + LISTEN_MS;
    checks.value = checks.value.with(-1, { name: "Level", state: "running", words: "say something…" });
    while (performance.now() < end) {
      await pause(50);
      this.#analyser.getFloatTimeDomainData(samples);
      const level = Math.sqrt(samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length);
      loudest = Math.max(loudest, level);
      levelOfCheck.value = loudness(level);
    }
    levelOfCheck.value = undefined;
    const db = Math.round(decibels(loudest));
    if (loudest < 1e-5) return ["bad", "Nothing at all comes: it is switched off, or the wrong one. Choose another under Sound."];
    if (db < -50) return ["warn", `Very low, ${db} dB at its loudest. Speak up, come nearer, or raise its level in the system.`];
    if (db > -3) return ["warn", `Too loud, ${db} dB: it is cut off. Lower its level in the system.`];
    return ["ok", `${db} dB at its loudest.`];
  }

  /** Plays a tone, notes what of it the microphone hears, and asks whether the user heard it. */
  async tone(): Promise<Result> {
    const context = this.#context;
    if (!context) return ["skipped", "This browser plays nothing."];
    await context.resume();
    if (context.state !== "running") return ["bad", "The browser lets nothing be heard: click the page and check again."];
    const before = await this.#heardTone(500);
    const gain = new GainNode(context, { gain: 0 });
    const tone = new OscillatorNode(context, { frequency: TONE_HZ });
    tone.connect(gain).connect(context.destination);
    gain.gain.setTargetAtTime(0.2, context.currentTime, 0.02);
    tone.start();
    const during = await this.#heardTone(TONE_MS);
    gain.gain.setTargetAtTime(0, context.currentTime, 0.02);
    tone.stop(context.currentTime + 0.2);
    if (before !== undefined && during !== undefined) this.#echoDb = during - before;
    const answer = await this.#ask();
    if (answer === undefined) return ["skipped", "You did not say whether you heard the tone."];
    if (answer) return ["ok", "You heard the tone."];
    return ["bad", "You did not hear the tone: turn the volume up, or choose another loudspeaker under Sound or in the system."];
  }

  echo(): Result {
    if (this.#echoDb === undefined) return ["skipped", "It takes a microphone and a loudspeaker."];
    const rise = Math.round(this.#echoDb);
    if (rise < 6) return ["ok", "The microphone does not hear the tone: answers will not interrupt themselves."];
    if (rise < 20) return ["warn", `The microphone hears the tone ${rise} dB over the silence. Echo cancellation or less volume helps.`];
    return ["bad", `The microphone hears the tone ${rise} dB over the silence: answers may interrupt themselves. Switch echo cancellation on, or use a headset.`];
  }

  close(): void {
    void this.#media?.then((stream) => stream.getTracks().forEach((track) => track.stop()), () => undefined);
    void this.#context?.close();
  }

  /** The level around the tone's frequency in dB, the median over `ms`: what stands out by chance does not count. */
  async #heardTone(ms: number): Promise<number | undefined> {
    const analyser = this.#analyser;
    if (!analyser) return void (await pause(ms));
    const bins = new Float32Array(analyser.frequencyBinCount);
    const bin = Math.round((TONE_HZ * analyser.fftSize) / analyser.context.sampleRate);
    const levels: number[] = [];
    const end = performance.now() + ms;
    while (performance.now() < end) {
      await pause(50);
      analyser.getFloatFrequencyData(bins);
      levels.push(Math.max(-120, bins[bin - 1]!, bins[bin]!, bins[bin + 1]!));
    }
    return levels.sort((a, b) => a - b)[levels.length >> 1];
  }

  async #ask(): Promise<boolean | undefined> {
    const answer = new Promise<boolean>((resolve) => (hearing.value = resolve));
    const heard = await Promise.race([answer, pause(ASK_MS)]);
    hearing.value = undefined;
    return heard === undefined ? undefined : (heard as boolean);
  }
}

function constraints(): MediaTrackConstraints {
  const { deviceId, echoCancellation, noiseSuppression, autoGainControl } = settings.value;
  const device = deviceId ? { deviceId: { exact: deviceId } } : {};
  return { channelCount: 1, echoCancellation, noiseSuppression, autoGainControl, ...device };
}

function microphoneWords({ name }: DOMException): string {
  const kinds = {
    NotAllowedError: "permission-denied",
    SecurityError: "permission-denied",
    NotFoundError: "not-found",
    OverconstrainedError: "constraints",
    NotReadableError: "in-use",
  } as const;
  const kind = name in kinds ? kinds[name as keyof typeof kinds] : "in-use";
  const [title, words] = MICROPHONE_TROUBLE[kind];
  return `${title}. ${words.replace("press the button again", "check again")}`;
}

function decibels(level: number): number {
  return 20 * Math.log10(level + 1e-9);
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

