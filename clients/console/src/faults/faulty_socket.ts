import { signal } from "@preact/signals";
import type { Socket } from "@antiphon/client";

/** The longest that a message is held up, in milliseconds; 0 is none. */
export const jitterMs = signal(0);
/** Whether the present socket lets nothing through in either direction, though it looks open. The next one does. */
export const halfOpen = signal(false);

/** How long a half-open connection is left to the gateway, once this side has given it up. */
const DEAD_MS = 30_000;

let latest: FaultySocket | undefined;

/** Opens a socket that obeys the faults above. */
export function openFaulty(url: string, protocols: string[]): Socket {
  halfOpen.value = false;
  return (latest = new FaultySocket(new WebSocket(url, protocols)));
}

/** Lets nothing through any more: as when a phone changes its network, nobody is told. */
export function swallow(): void {
  if (latest?.readyState !== WebSocket.OPEN) return;
  latest.swallows = true;
  halfOpen.value = true;
}

/** Loses the connection as a network does: no closing handshake, and no word to either side. */
export function dropSocket(): void {
  latest?.drop();
}

class FaultySocket implements Socket {
  onopen: Socket["onopen"] = null;
  onmessage: Socket["onmessage"] = null;
  onclose: Socket["onclose"] = null;
  onerror: Socket["onerror"] = null;

  readonly #socket: WebSocket;
  readonly #outgoing = new Delay();
  readonly #incoming = new Delay();
  #dropped = false;
  swallows = false;

  constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.onopen = (event) => this.#tell(() => this.onopen?.(event));
    socket.onerror = (event) => this.#tell(() => this.onerror?.(event));
    socket.onclose = (event) => this.#incoming.run(() => this.#tell(() => this.onclose?.(event)));
    socket.onmessage = (event) =>
      this.#incoming.run(() => {
        if (!this.swallows) this.#tell(() => this.onmessage?.(event));
      });
  }

  get protocol(): string {
    return this.#socket.protocol;
  }

  get readyState(): number {
    return this.#dropped ? WebSocket.CLOSED : this.#socket.readyState;
  }

  get bufferedAmount(): number {
    return this.#socket.bufferedAmount;
  }

  get binaryType(): string {
    return this.#socket.binaryType;
  }

  set binaryType(type: string) {
    this.#socket.binaryType = type as BinaryType;
  }

  send(data: string | ArrayBuffer | Uint8Array): void {
    // The caller may use its buffer again, so what is held up is a copy.
    const held = typeof data === "string" ? data : jitterMs.value ? new Uint8Array(data).slice() : data;
    this.#outgoing.run(() => {
      const open = !this.#dropped && this.#socket.readyState === WebSocket.OPEN;
      if (open && !this.swallows) this.#socket.send(held as string | ArrayBuffer);
    });
  }

  close(code?: number, reason?: string): void {
    const close = () => this.#socket.close(code, reason);
    // Nobody is told of the end of a dead connection: the gateway finds it out, or closes it for the next one.
    if (this.swallows) setTimeout(close, DEAD_MS);
    else this.#outgoing.run(close);
  }

  drop(): void {
    if (this.readyState !== WebSocket.OPEN) return;
    this.#dropped = true;
    // A page cannot cut a connection: closing without a reader is as near as it gets.
    this.#socket.close(4000, "dropped by a fault button");
    queueMicrotask(() => this.onclose?.({ code: 1006, reason: "" }));
  }

  #tell(what: () => void): void {
    if (!this.#dropped) what();
  }
}

/** Runs what it is given in its order, each held up by chance while there is jitter. */
class Delay {
  readonly #waiting: { what: () => void; dueAt: number }[] = [];

  run(what: () => void): void {
    const now = performance.now();
    const dueAt = now + Math.random() * jitterMs.value;
    if (!this.#waiting.length && dueAt <= now) return what();
    this.#waiting.push({ what, dueAt });
    if (this.#waiting.length === 1) this.#wait();
  }

  /** One timer at a time: of two, the later one may fire first. */
  #wait(): void {
    const next = this.#waiting[0];
    if (!next) return;
    setTimeout(() => {
      this.#waiting.shift();
      next.what();
      this.#wait();
    }, next.dueAt - performance.now());
  }
}
