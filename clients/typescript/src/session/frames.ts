/** Binary frames (protocol.md): `version u8, kind u8, flags u16, sequence u32, timestampMs u64`, and the audio. */

const VERSION = 1;
const HEADER_BYTES = 16;
const AUDIO_CHUNK = 1;
const AUDIO_RESPONSE = 2;

export interface Piece {
  sequence: number;
  timestamp: number;
  data: Uint8Array;
}

/** Returns the frame of an `audio_chunk`. */
export function packChunk(sequence: number, timestamp: number, data: Uint8Array): Uint8Array {
  const frame = new Uint8Array(HEADER_BYTES + data.length);
  const view = new DataView(frame.buffer);
  view.setUint8(0, VERSION);
  view.setUint8(1, AUDIO_CHUNK);
  view.setUint32(4, sequence);
  view.setBigUint64(8, BigInt(Math.floor(timestamp)));
  frame.set(data, HEADER_BYTES);
  return frame;
}

/** Returns what is in the frame of an `audio_response`, or undefined if it is none. */
export function unpackResponse(frame: ArrayBuffer): Piece | undefined {
  const view = new DataView(frame);
  if (frame.byteLength < HEADER_BYTES || view.getUint8(0) !== VERSION || view.getUint8(1) !== AUDIO_RESPONSE) return;
  return {
    sequence: view.getUint32(4),
    timestamp: Number(view.getBigUint64(8)),
    data: new Uint8Array(frame, HEADER_BYTES),
  };
}

export function toBase64(bytes: Uint8Array): string {
  let text = "";
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return btoa(text);
}

/** Returns the bytes, or undefined if it is no base64. */
export function fromBase64(text: string): Uint8Array | undefined {
  try {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  } catch {
    return undefined;
  }
}
