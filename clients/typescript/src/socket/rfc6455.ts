/** Frames of RFC 6455, section 5.2, as a client reads and writes them. Pure. */

export const Opcode = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const;

const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;

export interface Message {
  opcode: number;
  payload: Uint8Array;
}

/** Returns one final frame, masked with four bytes of chance. */
export function mask(opcode: number, payload: Uint8Array, key: Uint8Array): Uint8Array {
  const { length } = payload;
  const extended = length < 126 ? 0 : length < 65_536 ? 2 : 8;
  const frame = new Uint8Array(6 + extended + length);
  const view = new DataView(frame.buffer);
  frame[0] = 0x80 | opcode;
  frame[1] = 0x80 | (extended === 0 ? length : extended === 2 ? 126 : 127);
  if (extended === 2) view.setUint16(2, length);
  if (extended === 8) view.setBigUint64(2, BigInt(length));
  frame.set(key, 2 + extended);
  for (let index = 0; index < length; index++) frame[6 + extended + index] = payload[index]! ^ key[index & 3]!;
  return frame;
}

/** Cuts a server's frames out of what comes, and joins those of one message. */
export class FrameReader {
  #rest = new Uint8Array(0);
  #opcode = 0;
  #parts: Uint8Array[] = [];
  #size = 0;

  /**
   * Returns the messages that are complete with this.
   *
   * Throws RangeError where it is no frame that a server may send, or a message of more than 16 MiB.
   */
  push(data: Uint8Array): Message[] {
    const buffer = new Uint8Array(this.#rest.length + data.length);
    buffer.set(this.#rest);
    buffer.set(data, this.#rest.length);
    const messages: Message[] = [];
    let at = 0;
    for (let frame = cut(buffer, at); frame; frame = cut(buffer, at)) {
      at = frame.end;
      const message = this.#take(frame.first, buffer.slice(frame.start, frame.end));
      if (message) messages.push(message);
    }
    this.#rest = buffer.slice(at);
    return messages;
  }

  #take(first: number, payload: Uint8Array): Message | undefined {
    const opcode = first & 0x0f;
    const final = (first & 0x80) !== 0;
    if (opcode >= Opcode.close) {
      if (!final || payload.length > 125) throw new RangeError("a control frame in parts");
      return { opcode, payload };
    }
    if ((opcode === Opcode.continuation) !== this.#parts.length > 0) throw new RangeError("a frame out of order");
    if (opcode !== Opcode.continuation) this.#opcode = opcode;
    this.#parts.push(payload);
    this.#size += payload.length;
    if (this.#size > MAX_MESSAGE_BYTES) throw new RangeError("a message too long");
    if (!final) return undefined;
    const whole = this.#parts.length === 1 ? payload : joined(this.#parts, this.#size);
    this.#parts = [];
    this.#size = 0;
    return { opcode: this.#opcode, payload: whole };
  }
}

/** Finds the frame that begins at `at`; undefined where it is not all there. */
function cut(buffer: Uint8Array, at: number): { first: number; start: number; end: number } | undefined {
  if (buffer.length < at + 2) return undefined;
  const view = new DataView(buffer.buffer, at);
  const first = view.getUint8(0);
  const second = view.getUint8(1);
  if (first & 0x70 || second & 0x80) throw new RangeError("a frame with an extension, or masked");
  let start = at + 2;
  let length = second;
  if (second === 126) {
    if (buffer.length < at + 4) return undefined;
    length = view.getUint16(2);
    start += 2;
  } else if (second === 127) {
    if (buffer.length < at + 10) return undefined;
    length = Number(view.getBigUint64(2));
    start += 8;
  }
  if (length > MAX_MESSAGE_BYTES) throw new RangeError("a frame too long");
  return buffer.length < start + length ? undefined : { first, start, end: start + length };
}

function joined(parts: Uint8Array[], size: number): Uint8Array {
  const whole = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
