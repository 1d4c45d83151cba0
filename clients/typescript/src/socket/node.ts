import { createHash, randomBytes } from "node:crypto";
import { request as plainRequest, type IncomingMessage } from "node:http";
import { request as secureRequest } from "node:https";
import type { Duplex } from "node:stream";
import { FrameReader, mask, Opcode } from "./rfc6455.js";
import type { Socket } from "./socket.js";

const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const CLOSE_MS = 2000; // how long the other side may take to close

/** A WebSocket client (RFC 6455) without extensions. */
export class NodeSocket implements Socket {
  protocol = "";
  readyState = 0;
  binaryType = "arraybuffer";
  onopen: ((event: unknown) => void) | null = null;
  onmessage: ((event: { data: string | ArrayBuffer }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  onerror: ((event: unknown) => void) | null = null;
  #stream: Duplex | undefined;
  #reader = new FrameReader();
  #close: { code: number; reason: string } | undefined;
  #request: ReturnType<typeof plainRequest>;

  constructor(url: string, protocols: string[]) {
    const target = new URL(url.replace(/^ws/, "http"));
    const key = randomBytes(16).toString("base64");
    const headers: Record<string, string> = {
      Connection: "Upgrade",
      Upgrade: "websocket",
      "Sec-WebSocket-Version": "13",
      "Sec-WebSocket-Key": key,
    };
    if (protocols.length) headers["Sec-WebSocket-Protocol"] = protocols.join(", ");
    this.#request = (target.protocol === "https:" ? secureRequest : plainRequest)(target, { headers });
    this.#request.on("upgrade", (response, stream, head) => this.#opened(response, stream, head, key, protocols));
    this.#request.on("response", (response) => {
      response.resume();
      this.#fail(new Error(`The server refused the WebSocket with HTTP ${response.statusCode}.`));
    });
    this.#request.on("error", (error) => this.#fail(error));
    this.#request.end();
  }

  get bufferedAmount(): number {
    return this.#stream?.writableLength ?? 0;
  }

  send(data: string | ArrayBuffer | Uint8Array): void {
    if (this.readyState !== 1) return;
    if (typeof data === "string") this.#write(Opcode.text, new TextEncoder().encode(data));
    else this.#write(Opcode.binary, data instanceof Uint8Array ? data : new Uint8Array(data));
  }

  close(code = 1000, reason = ""): void {
    if (this.readyState >= 2) return;
    const opened = this.readyState === 1;
    this.readyState = 2;
    if (!opened) {
      this.#request.destroy();
      return this.#ended(1006, "");
    }
    const text = new TextEncoder().encode(reason);
    const body = new Uint8Array(2 + text.length);
    new DataView(body.buffer).setUint16(0, code);
    body.set(text, 2);
    this.#write(Opcode.close, body);
    setTimeout(() => this.#stream?.destroy(), CLOSE_MS).unref();
  }

  #opened(response: IncomingMessage, stream: Duplex, head: Buffer, key: string, protocols: string[]): void {
    const expected = createHash("sha1").update(key + GUID).digest("base64");
    const protocol = response.headers["sec-websocket-protocol"] ?? "";
    if (response.headers["sec-websocket-accept"] !== expected || (protocol && !protocols.includes(protocol))) {
      stream.destroy();
      return this.#fail(new Error("What answers is no WebSocket server."));
    }
    this.#stream = stream;
    this.protocol = protocol;
    this.readyState = 1;
    stream.on("data", (data: Buffer) => this.#received(data));
    stream.on("error", () => stream.destroy());
    stream.on("end", () => stream.destroy()); // a lost connection
    stream.on("close", () => this.#ended(this.#close?.code ?? 1006, this.#close?.reason ?? ""));
    this.onopen?.({});
    if (head.length) this.#received(head);
  }

  #received(data: Uint8Array): void {
    try {
      for (const { opcode, payload } of this.#reader.push(data)) {
        if (opcode === Opcode.ping) this.#write(Opcode.pong, payload);
        else if (opcode === Opcode.close) this.#closing(payload);
        else if (opcode === Opcode.text) this.onmessage?.({ data: new TextDecoder().decode(payload) });
        else if (opcode === Opcode.binary) this.onmessage?.({ data: payload.slice().buffer as ArrayBuffer });
      }
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      this.#close = { code: 1002, reason: "" }; // what came is no frame of RFC 6455
      this.#stream?.destroy();
    }
  }

  #closing(payload: Uint8Array): void {
    const code = payload.length < 2 ? 1005 : new DataView(payload.buffer, payload.byteOffset).getUint16(0);
    this.#close = { code, reason: new TextDecoder().decode(payload.subarray(2)) };
    if (this.readyState === 1) this.#write(Opcode.close, payload.subarray(0, 2));
    this.readyState = 2;
    this.#stream?.end();
    setTimeout(() => this.#stream?.destroy(), CLOSE_MS).unref();
  }

  #write(opcode: number, payload: Uint8Array): void {
    this.#stream?.write(mask(opcode, payload, randomBytes(4)));
  }

  #fail(error: unknown): void {
    if (this.readyState === 3) return;
    this.onerror?.(error);
    this.#ended(1006, error instanceof Error ? error.message : "");
  }

  #ended(code: number, reason: string): void {
    if (this.readyState === 3) return;
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }
}
