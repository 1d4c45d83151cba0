import { CallError } from "../errors.js";
import { CAPTURE_RATE_HZ } from "./rates.js";
import type { Sound } from "./sound.js";

const CHUNK_SAMPLES = 640; // 40 ms
const MOST_S = 600;
/** Ten minutes of WAV at 48 kHz in stereo, and some more. */
const MOST_BYTES = 128 * 1024 * 1024;

/**
 * Decodes an audio file of any format that the browser knows to 16 kHz mono. Raises CallError AUDIO_UNSUPPORTED for
 * what is none, is empty, or is longer than 10 minutes or 128 MB, and UNSUPPORTED where there is no audio.
 */
export async function decodeFile(file: Blob): Promise<Int16Array> {
  return mixed(await read(file));
}

async function read(file: Blob): Promise<AudioBuffer> {
  if (typeof OfflineAudioContext === "undefined") {
    throw new CallError("UNSUPPORTED", "Only browsers decode audio files: send samples with sendAudio().");
  }
  if (file.size > MOST_BYTES) throw unsupported("This file is larger than 128 MB: send a shorter one, or cut it.");
  const audio = await decode(await file.arrayBuffer());
  if (audio.duration > MOST_S) throw unsupported("This file is longer than 10 minutes: send a shorter one, or cut it.");
  if (!audio.length) throw unsupported("There is no audio in this file: send another one.");
  return audio;
}

/** What sends samples: a `Call`. */
interface Sender {
  /** Where the level of what is sent is measured. */
  readonly sound: Sound | undefined;
  sendAudio(samples: Int16Array): void;
  endAudio(): Promise<void>;
}

const sending = new WeakMap<Sender, Promise<void>>();

/**
 * Sends a file in real time, as if it were spoken, and ends the stream; after those that are being sent. Raises CallError as
 * `decodeFile` does.
 */
export function sendFile(
  sender: Sender,
  file: Blob,
  signal?: AbortSignal,
  onProgress?: (sentMs: number, totalMs: number) => void,
): Promise<void> {
  const before = sending.get(sender) ?? Promise.resolve();
  const sent = before.then(() => send(sender, file, signal, onProgress));
  sending.set(sender, sent.catch(() => {})); // it is the caller's
  return sent;
}

async function send(
  sender: Sender,
  file: Blob,
  signal?: AbortSignal,
  onProgress?: (sentMs: number, totalMs: number) => void,
): Promise<void> {
  if (signal?.aborted) return;
  const audio = await read(file);
  const samples = mixed(audio);
  const totalMs = milliseconds(samples.length);
  const shown = sender.sound && show(audio, sender.sound);
  const beganAt = performance.now();
  try {
    for (let at = 0; at < samples.length; at += CHUNK_SAMPLES) {
      const sentMs = Math.min(milliseconds(at + CHUNK_SAMPLES), totalMs);
      const dueMs = beganAt + sentMs - performance.now();
      if (dueMs > 0) await new Promise((resolve) => setTimeout(resolve, dueMs));
      if (signal?.aborted) break;
      sender.sendAudio(samples.subarray(at, at + CHUNK_SAMPLES));
      onProgress?.(sentMs, totalMs);
    }
  } finally {
    shown?.stop();
  }
  await sender.endAudio();
}

/** Has the levels of what is said show it, though nobody hears it here. */
function show(audio: AudioBuffer, { context, input }: Sound): AudioBufferSourceNode {
  const source = new AudioBufferSourceNode(context, { buffer: audio });
  source.connect(input);
  source.onended = () => source.disconnect();
  source.start();
  return source;
}

function milliseconds(samples: number): number {
  return (1000 * samples) / CAPTURE_RATE_HZ;
}

async function decode(bytes: ArrayBuffer): Promise<AudioBuffer> {
  try {
    // It decodes to the rate of its context.
    return await new OfflineAudioContext(1, 1, CAPTURE_RATE_HZ).decodeAudioData(bytes);
  } catch (cause) {
    const words = "This browser cannot decode the file as audio: send WAV, MP3, FLAC or Ogg.";
    throw unsupported(words, cause);
  }
}

function mixed(audio: AudioBuffer): Int16Array {
  const channels = Array.from({ length: audio.numberOfChannels }, (_, channel) => audio.getChannelData(channel));
  const samples = new Int16Array(audio.length);
  for (let index = 0; index < samples.length; index++) {
    let sum = 0;
    for (const channel of channels) sum += channel[index]!;
    samples[index] = Math.round(Math.max(-1, Math.min(sum / channels.length, 1)) * 32767);
  }
  return samples;
}

function unsupported(words: string, cause?: unknown): CallError {
  return new CallError("AUDIO_UNSUPPORTED", words, { cause });
}
