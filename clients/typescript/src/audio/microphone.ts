import { CallError, MicrophoneError } from "../errors.js";
import type { MicrophoneOptions } from "../options.js";
import { askForMicrophone } from "./ask.js";
import { getUserMediaError, microphoneError, microphoneObstacle } from "./microphone_errors.js";
import { ScreenLock } from "./screen_lock.js";
import type { Sound } from "./sound.js";
import type { CaptureCommand, CaptureReport } from "./worklet/capture.js";

const CHECK_MS = 1000;
/** Nothing came in so many checks; each takes its second, so that a page that was held up tells no such thing. */
const SILENT_CHECKS = 3;
/** How long the worklet may take to give the rest; a context that stands still gives none. */
const PATIENCE_MS = 500;
/** A device that is lost sooner is not replaced again, or it would go on for ever. */
const LEAST_LIFE_MS = 3000;

export interface MicrophoneListener {
  /** 40 ms each, but for the last: 16 kHz mono; `capturedAt` is performance.now() of the first sample. */
  audio(samples: Int16Array, capturedAt: number): void;
  /** It is over, after its last audio: the device is gone, and the usual one could not take its place. */
  ended(error: MicrophoneError): void;
  /** Nothing comes for 3 s, or the system has muted it: the error says so. Without one it comes again. */
  silent(error?: MicrophoneError): void;
  /** The device is gone, and the usual one took its place; label, deviceId and settings are of that one. */
  replaced?(): void;
}

/** An open microphone. */
export class Microphone {
  readonly #sound: Sound;
  readonly #options: MicrophoneOptions;
  readonly #listener: MicrophoneListener;
  readonly #node: AudioWorkletNode;
  readonly #drained: Promise<void>;
  readonly #checks: ReturnType<typeof setInterval>;
  readonly #screen: ScreenLock | undefined;
  #media!: MediaStream;
  #source: MediaStreamAudioSourceNode | undefined;
  #openedAt = 0;
  #muted: boolean;
  #silent = false;
  #checksWithout = 0;
  #stopping: Promise<void> | undefined;
  #closed = false;

  /**
   * Opens what `askForMicrophone` has asked for, in the click. It loads the worklet where that is not done. With `wakeLock`
   * the screen stays on until it is closed. Raises MicrophoneError.
   */
  static async open(
    sound: Sound,
    options: MicrophoneOptions,
    listener: MicrophoneListener,
    asked: Promise<MediaStream>,
    wakeLock?: boolean,
  ): Promise<Microphone> {
    const obstacle = microphoneObstacle();
    if (obstacle) throw obstacle;
    const media = await told(asked);
    try {
      await sound.load();
      if (media.getAudioTracks()[0]?.readyState !== "live") throw microphoneError("ended");
      return new Microphone(sound, options, listener, media, wakeLock);
    } catch (cause) {
      release(media);
      throw connectError(cause);
    }
  }

  private constructor(
    sound: Sound,
    options: MicrophoneOptions,
    listener: MicrophoneListener,
    media: MediaStream,
    wakeLock = false,
  ) {
    this.#sound = sound;
    this.#options = options;
    this.#listener = listener;
    this.#muted = options.muted ?? false;
    this.#node = new AudioWorkletNode(sound.context, "capture", { channelCount: 1, channelCountMode: "explicit" });
    this.#drained = new Promise((resolve) => {
      this.#node.port.onmessage = ({ data }: MessageEvent<CaptureReport>) => {
        if (data.type === "ended") resolve();
        else this.#heard(data.samples, data.frame);
      };
    });
    this.#use(media);
    this.#node.connect(sound.context.destination); // it puts nothing out, but is run only so
    this.#checks = setInterval(() => this.#check(), CHECK_MS);
    if (wakeLock) this.#screen = new ScreenLock();
  }

  get label(): string {
    return this.#track.label;
  }

  get deviceId(): string {
    return this.settings.deviceId ?? "";
  }

  get settings(): MediaTrackSettings {
    return this.#track.getSettings();
  }

  get muted(): boolean {
    return this.#muted;
  }

  /** Nothing is passed on while it is muted, and nothing recorded. */
  set muted(muted: boolean) {
    this.#muted = muted;
    this.#track.enabled = !muted;
  }

  /** Releases the device. When it resolves, all that was heard has been passed on. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  async #stop(): Promise<void> {
    clearInterval(this.#checks);
    this.#screen?.release();
    this.#node.port.postMessage("end" satisfies CaptureCommand);
    await Promise.race([this.#drained, new Promise((resolve) => setTimeout(resolve, PATIENCE_MS))]);
    this.#closed = true;
    this.#disconnect();
    this.#node.disconnect();
  }

  get #track(): MediaStreamTrack {
    return this.#media.getAudioTracks()[0]!;
  }

  /** Raises NotSupportedError where the browser wants all at one rate. */
  #use(media: MediaStream): void {
    this.#media = media;
    this.#source = new MediaStreamAudioSourceNode(this.#sound.context, { mediaStream: media });
    this.#source.connect(this.#sound.input);
    this.#source.connect(this.#node);
    this.#openedAt = performance.now();
    const track = this.#track;
    track.enabled = !this.#muted;
    track.onended = () => void this.#lost();
    track.onmute = () => this.#tellSilent(true);
    track.onunmute = () => this.#tellSilent(false);
  }

  #disconnect(): void {
    release(this.#media);
    this.#source?.disconnect();
  }

  #heard(samples: Int16Array, frame: number): void {
    if (this.#closed) return;
    this.#checksWithout = 0;
    if (!this.#track.muted) this.#tellSilent(false);
    if (!this.#muted) this.#listener.audio(samples, this.#sound.renderedAt(frame / this.#sound.context.sampleRate));
  }

  #check(): void {
    this.#checksWithout++;
    if (this.#track.muted || this.#checksWithout >= SILENT_CHECKS) this.#tellSilent(true);
  }

  #tellSilent(silent: boolean): void {
    if (silent === this.#silent || this.#stopping) return;
    this.#silent = silent;
    this.#listener.silent(silent ? microphoneError("silent") : undefined);
  }

  /** The device is gone: the usual one takes its place, or it is over. */
  async #lost(): Promise<void> {
    if (this.#stopping) return;
    this.#disconnect();
    let error = microphoneError("ended");
    if (performance.now() - this.#openedAt >= LEAST_LIFE_MS) {
      try {
        const media = await told(askForMicrophone(this.#options, ""));
        if (this.#stopping) return release(media);
        this.#use(media);
        return this.#listener.replaced?.();
      } catch (cause) {
        this.#disconnect();
        if (cause instanceof MicrophoneError && cause.kind === "permission-denied") error = cause;
      }
    }
    if (this.#stopping) return;
    await this.stop();
    this.#listener.ended(error);
  }
}

/** What the browser gave; its refusal as MicrophoneError. */
function told(asked: Promise<MediaStream>): Promise<MediaStream> {
  return asked.catch((cause: unknown) => {
    throw getUserMediaError(cause);
  });
}

function release(media: MediaStream): void {
  for (const track of media.getTracks()) track.stop();
}

/** Why what the browser gave cannot be listened to. */
function connectError(cause: unknown): MicrophoneError {
  if (cause instanceof MicrophoneError) return cause;
  if (cause instanceof CallError) return new MicrophoneError("unsupported", cause.message, cause);
  if ((cause as { name?: string }).name !== "NotSupportedError") return microphoneError("unsupported", cause);
  const words =
    "This browser wants microphone and output at one sample rate: " +
    "choose another microphone, or set both to 48 kHz in the system.";
  return new MicrophoneError("unsupported", words, cause);
}
