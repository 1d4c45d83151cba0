import { CallError } from "../errors.js";
import type { ClientHelloMessage, ErrorMessage, ExtendedServerMessage, SessionInfoMessage } from "../messages.js";
import type { SocketFactory, Socket } from "../socket/socket.js";
import { ClockEstimate } from "./clock.js";
import { unpackResponse } from "./frames.js";
import { Outbox, size, type Outgoing } from "./outgoing.js";
import { delayMs, mayResume, reason, type ReconnectPolicy, type Verdict } from "./reconnect.js";
import { MOST_MS, renewalDelayMs, type Tokens } from "./tokens.js";

export const SUBPROTOCOL = "antiphon.v1";

const GRACE_MS = 4000; // how much longer than the heartbeat a connection may be silent before it is asked
const ANSWER_MS = 4000; // how long a ping may stay unanswered
const STEADY_MS = 5000; // a connection that is lost sooner counts as a failed attempt: no gateway is hammered at
const RESUME_MS = 120_000; // how long a gateway keeps a session, where it does not say
const SETTLE_MS = 1000; // how long a closing connection may take to be written out
const MOST_UNSENT_BYTES = 64 * 1024; // in the socket; what follows waits here, where it can be resumed or dropped
const MOST_WAITING_BYTES = 1024 * 1024; // of messages that are no audio
const MOST_MESSAGE_BYTES = 65_536 - 40; // the protocol's limit, less what the time adds
const PUMP_MS = 20; // how soon a socket that took no more is tried again
const CLOCK_MS = [0, 250, 1000, 3000]; // pings after connecting; then one each CLOCK_EVERY_MS
const CLOCK_EVERY_MS = 15_000;

const SPENT = /^AUTH_TOKEN/; // another token may be good

export interface SessionOptions {
  url: string;
  base: boolean;
  hello: () => ClientHelloMessage;
  tokens: Tokens;
  reconnect: ReconnectPolicy | undefined;
  maxBacklogMs: number;
  timeoutMs: number;
  socket: SocketFactory;
}

export interface Connected {
  recovered: boolean;
  replayed: number;
  lossy: boolean;
  gapMs: number;
}

export interface SessionListener {
  connected(how: Connected): void;
  /** The connection is lost, and attempt `attempt` (from 1) to come back follows in `delayMs`. */
  lost(attempt: number, delayMs: number, why: CallError): void;
  over(error: CallError): void;
  message(message: ExtendedServerMessage): void;
  /** A binary piece of an answer. */
  piece(data: Uint8Array, timestamp: number): void;
  dropped(ms: number): void;
  /** All that goes over the wire; `message` of binary audio is what it stands for. */
  wire(direction: "sent" | "received", bytes: number, binary: boolean, message: any): void;
}

/**
 * A session with the gateway, over one connection after the other.
 *
 *     new -> connecting -> up <-> away -> over
 *
 * `away`: the connection is lost and the session comes back; what is to be sent waits in the outbox. Lossless by
 * counting (protocol.md, Resume): `received` counts what came, the gateway counts what it got, both since `auth_success`.
 */
export class Session {
  state: "new" | "connecting" | "up" | "away" | "over" = "new";
  id = "";
  userId = "";
  info: SessionInfoMessage | undefined;
  extended: boolean;
  /** Whether audio that was not acknowledged may be said again in another session: not where a header is needed. */
  repeats = true;
  readonly clock = new ClockEstimate();
  readonly outbox: Outbox;
  #options: SessionOptions;
  #listener: SessionListener;
  #socket: Socket | undefined;
  #received = 0;
  #resumeToken = "";
  #heardMs: number | undefined;
  #attempt = 0;
  #lostAt = 0;
  #upAt = 0;
  #heardAt = 0;
  #verdict: Verdict | undefined;
  #back: Connected = { recovered: false, replayed: 0, lossy: false, gapMs: 0 };
  #wake: (() => void) | undefined;
  #giveUp: (() => void) | undefined; // ends the attempt to connect that is under way
  #pingId = 0;
  #pings = new Map<number, number>();
  #timers = new Map<string, ReturnType<typeof setTimeout>>();

  constructor(options: SessionOptions, listener: SessionListener) {
    this.#options = options;
    this.extended = !options.base;
    this.#listener = listener;
    this.outbox = new Outbox(options.maxBacklogMs, MOST_WAITING_BYTES);
  }

  /** Connects. Rejects with CallError, and is over then. */
  async open(): Promise<void> {
    this.state = "connecting";
    this.#options.tokens.expire("connect");
    try {
      await this.#connect(false);
    } catch (error) {
      this.state = "over";
      this.#leave();
      throw asCallError(error);
    }
  }

  /** Writes what waits, as far as there is a connection, and ends. */
  async close(): Promise<void> {
    const { state } = this;
    this.state = "over";
    this.#wake?.();
    if (state !== "up") this.#giveUp?.();
    const socket = this.#socket;
    if (state === "up" && socket) {
      const until = performance.now() + SETTLE_MS;
      this.#write();
      while ((socket.bufferedAmount > 0 || !this.outbox.isEmpty) && performance.now() < until) {
        await pause(5);
        this.#write();
      }
    }
    this.#leave();
  }

  /** Sends a message, now or when there is a connection again. Throws CallError where too much waits. */
  send(message: Outgoing): void {
    if (this.state === "over") throw notConnected();
    if (size(message) > MOST_MESSAGE_BYTES) {
      throw new CallError("PROTOCOL_TOO_BIG", "That is more than the gateway takes.");
    }
    if (!this.outbox.add(message)) {
      throw new CallError("BACKLOG_FULL", "Too much waits to be sent.");
    }
    this.#pump();
  }

  /** Sends audio of the stream that was begun last. */
  sendAudio(data: Uint8Array, audioMs: number): void {
    if (this.state === "over") return;
    const droppedMs = this.outbox.addAudio(data, audioMs);
    if (droppedMs) this.#listener.dropped(droppedMs);
    this.#pump();
  }

  /** Shows another token; the gateway answers with auth_success or an error. */
  async renew(token?: string): Promise<void> {
    const { tokens } = this.#options;
    if (token !== undefined) tokens.use(token);
    else tokens.expire("expiring");
    const current = await tokens.get();
    if (this.state === "up") this.#pass({ type: "auth", token: current });
  }

  /** Tries to come back now, where it waits for that: the network or the user is there again. */
  hurry(): void {
    if (this.state !== "up") this.#wake?.();
    else if (this.extended) this.#probe(); // a base session has no ping
  }

  /** Takes the connection for dead. */
  drop(): void {
    if (this.#socket) this.#closed(this.#socket, 1006);
  }

  // ---- connecting

  /** Opens a connection, and the session on it or the one before. Rejects with CallError. */
  async #connect(resuming: boolean): Promise<void> {
    const { url, base, socket: open, tokens, timeoutMs } = this.#options;
    let fail!: (error: CallError) => void;
    const failed = new Promise<never>((_, reject) => (fail = reject));
    this.#giveUp = () => fail(notConnected());
    this.#after("connect", timeoutMs, () =>
      fail(new CallError("CONNECT_TIMEOUT", `Connecting to ${url} took too long.`, { retryable: true })),
    );
    const token = await Promise.race([tokens.get(), failed]);
    const socket = await open(url, base ? [] : [SUBPROTOCOL]);
    if (this.state === "over") {
      socket.close();
      throw notConnected();
    }
    this.#socket = socket;
    this.#verdict = undefined;
    socket.binaryType = "arraybuffer";
    let opened = false;
    socket.onopen = () => {
      opened = true;
      this.extended = socket.protocol === SUBPROTOCOL;
      if (!resuming || !this.#resume(token)) this.#pass({ type: "auth", token });
    };
    socket.onclose = ({ code }) => fail(this.#refusal(code, opened));
    socket.onerror = () => {};
    const begun = new Promise<void>((resolve) => {
      const begin = (): void => {
        this.#begin(socket); // at once: the next message may be here already
        resolve();
      };
      socket.onmessage = ({ data }) => this.#greeting(data, token, begin, fail);
    });
    await Promise.race([begun, failed]);
  }

  /** Asks to go on with the session; returns false where there is nothing to go on with. */
  #resume(token: string): boolean {
    if (!this.extended || !this.#resumeToken) return false;
    const place = { sessionId: this.id, resumeToken: this.#resumeToken, received: this.#received };
    this.#pass({ type: "resume", token, ...place, heardMs: this.#heardMs });
    return true;
  }

  /** Takes what comes before the session goes on. */
  #greeting(data: unknown, token: string, begin: () => void, fail: (error: CallError) => void): void {
    const message = this.#read(data);
    if (!message) return fail(new CallError("PROTOCOL_MISMATCH", "What answers is no Antiphon gateway."));
    switch (message.type) {
      case "auth_success":
        this.#anew(message.sessionId, message.userId);
        if (!this.extended) begin();
        break;
      case "session_info":
        this.#received++;
        this.#note(message);
        begin();
        break;
      case "resumed": {
        const missing = this.outbox.resume(message.received);
        this.#resumeToken = message.resumeToken;
        this.#back = { recovered: true, replayed: message.replayed, lossy: message.lossy || missing > 0, gapMs: 0 };
        begin();
        break;
      }
      case "error":
        if (message.code === "SESSION_RESUME_REFUSED") {
          this.#resumeToken = "";
          this.#pass({ type: "auth", token });
        } else {
          this.#verdict = message;
        }
    }
  }

  /** Begins a session: the first, or another where the one before could not be resumed. */
  #anew(id: string, userId: string): void {
    const another = this.id !== "";
    this.id = id;
    this.userId = userId;
    this.#received = 1;
    this.#heardMs = undefined;
    this.#resumeToken = "";
    const hello = this.extended ? this.#options.hello() : undefined;
    if (another) this.outbox.restart(this.repeats, hello);
    else if (hello) this.outbox.introduce(hello);
    this.#back = { recovered: false, replayed: 0, lossy: another, gapMs: 0 };
  }

  #begin(socket: Socket): void {
    const now = performance.now();
    clearTimeout(this.#timers.get("connect"));
    this.state = "up";
    this.#upAt = this.#heardAt = now;
    this.outbox.keeps = this.#resumeToken !== "" && this.#options.reconnect !== undefined;
    this.outbox.binary = this.extended && (this.info?.features.includes("binary_audio") ?? false);
    socket.onmessage = ({ data }) => this.#take(data);
    socket.onclose = ({ code }) => this.#closed(socket, code);
    if (this.#lostAt) this.#back.gapMs = now - this.#lostAt;
    this.#lostAt = 0;
    if (this.extended) {
      this.clock.reset();
      for (const [index, ms] of CLOCK_MS.entries()) this.#after(`clock${index}`, ms, () => this.#ping());
      this.#watch();
    }
    this.#listener.connected(this.#back);
    this.#pump();
  }

  /** Why an attempt failed. */
  #refusal(closeCode: number, opened: boolean): CallError {
    const { url } = this.#options;
    const verdict = this.#verdict;
    if (!opened && !verdict) {
      const text = `Nothing answers at ${url}; is the gateway running, and does it allow this page?`;
      return new CallError("CONNECT_FAILED", text, { closeCode, retryable: true });
    }
    return this.#failure(closeCode, verdict);
  }

  #failure(closeCode: number, verdict: Verdict | undefined): CallError {
    return new CallError(...reason(closeCode, verdict), {
      closeCode,
      retryable: mayResume(closeCode, verdict),
      retryAfterMs: verdict?.details?.retryAfterMs,
    });
  }

  // ---- the loss of a connection

  #closed(socket: Socket, code: number): void {
    if (this.#socket !== socket) return;
    const steady = performance.now() - this.#upAt >= STEADY_MS;
    this.#leave();
    if (this.state !== "up") return;
    const error = this.#failure(code, this.#verdict);
    if (this.#options.reconnect === undefined || !this.#mayComeBack(error)) return this.#end(error);
    this.#lostAt = performance.now();
    this.state = "away";
    if (steady) this.#attempt = 0;
    void this.#comeBack(error, this.#options.reconnect);
  }

  #mayComeBack(error: CallError): boolean {
    const { tokens } = this.#options;
    if (SPENT.test(error.code)) {
      tokens.expire("expired");
      return tokens.renewable;
    }
    return error.details.retryable === true;
  }

  async #comeBack(lost: CallError, policy: ReconnectPolicy): Promise<void> {
    const giveUpMs = policy.giveUpMs ?? this.info?.limits.resumeMs ?? RESUME_MS;
    const until = performance.now() + giveUpMs;
    let error = lost;
    while (this.state === "away") {
      const delay = Math.max(delayMs(policy, this.#attempt, Math.random()), error.details.retryAfterMs ?? 0);
      if (performance.now() + delay > until) {
        const text = `The connection was lost for good. ${error.message}`;
        return this.#end(new CallError("CONNECTION_LOST", text, { retryable: true, cause: error }));
      }
      this.#listener.lost(++this.#attempt, delay, error);
      await this.#pause(delay);
      if (this.state !== "away") return;
      const asked = this.#options.tokens.asks;
      try {
        await this.#connect(true);
        return;
      } catch (caught) {
        this.#leave();
        error = asCallError(caught);
        // Of a token that was asked for just now there is no better one.
        const vain = asked && SPENT.test(error.code);
        if (vain || !this.#mayComeBack(error)) return this.#end(error);
      }
    }
  }

  /** Waits, but no longer than until `hurry()`. */
  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = () => {
        clearTimeout(this.#timers.get("retry"));
        this.#wake = undefined;
        resolve();
      };
      this.#after("retry", ms, this.#wake);
    });
  }

  #end(error: CallError): void {
    if (this.state === "over") return;
    this.state = "over";
    this.#leave();
    this.#listener.over(error);
  }

  #leave(): void {
    for (const timer of this.#timers.values()) clearTimeout(timer);
    this.#timers.clear();
    this.#pings.clear();
    const socket = this.#socket;
    this.#socket = undefined;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.onerror = () => {};
    socket.close(1000);
  }

  // ---- what comes

  #take(data: unknown): void {
    this.#heardAt = performance.now();
    if (data instanceof ArrayBuffer) {
      this.#received++;
      const piece = unpackResponse(data);
      if (!piece) return;
      const { sequence, timestamp } = piece;
      this.#listener.wire("received", data.byteLength, true, { type: "audio_response", sequence, timestamp });
      return this.#listener.piece(piece.data, timestamp);
    }
    const message = this.#read(data);
    if (!message) return;
    if (message.type !== "pong" && message.type !== "resumed") this.#received++;
    try {
      if (this.#note(message)) this.#listener.message(message);
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
      const text = `The gateway sent a malformed ${message.type}.`;
      this.#listener.message({ type: "error", timestamp: 0, code: "PROTOCOL_MISMATCH", message: text });
    }
  }

  #read(data: unknown): ExtendedServerMessage | undefined {
    if (typeof data !== "string") return undefined;
    let message: ExtendedServerMessage;
    try {
      message = JSON.parse(data);
    } catch {
      return undefined;
    }
    if (typeof message?.type !== "string") return undefined;
    this.#listener.wire("received", data.length, false, message);
    return message;
  }

  /** Does what is the session's own business; returns whether others are to hear of it. */
  #note(message: ExtendedServerMessage): boolean {
    switch (message.type) {
      case "session_info":
        this.#noteInfo(message);
        return true;
      case "audio_ack":
        this.outbox.acknowledge(message.stream, message.sequence);
        return false;
      case "audio_heard":
        this.#heardMs = message.heardMs;
        return false;
      case "ping":
        this.#pass({ type: "pong", id: message.id, echoTime: message.timestamp });
        return false;
      case "pong":
        this.#pong(message.id, message.timestamp);
        return false;
      case "go_away":
        if (message.reason === "token") void this.#renewQuietly();
        return true;
      case "error":
        return this.#noteError(message);
      default:
        return true;
    }
  }

  #noteInfo(info: SessionInfoMessage): void {
    this.info = info;
    this.#resumeToken = info.resumeToken ?? "";
    if (info.tokenExpiresAt !== undefined && this.#options.tokens.renewable) {
      const now = Date.now() + (this.clock.known ? this.clock.offsetMs : 0);
      this.#after("token", renewalDelayMs(info.tokenExpiresAt, now), () => void this.#renewQuietly());
    }
  }

  #noteError(error: ErrorMessage): boolean {
    if (error.details?.fatal) {
      this.#verdict = error; // the close that follows is told of
      return false;
    }
    if (error.code === "AUDIO_STREAM_INACTIVE" || error.code === "AUDIO_UNSUPPORTED") this.outbox.endStream();
    if (error.code === "PROTOCOL_BAD_MESSAGE" && error.details?.path?.startsWith("$.config")) this.outbox.refuseStream();
    return true;
  }

  /** Renews the token; where none is to be had, the one in force goes on counting, and another try follows. */
  async #renewQuietly(): Promise<void> {
    if (!this.#options.tokens.renewable) return;
    try {
      await this.renew();
    } catch (error) {
      if (!(error instanceof CallError)) throw error;
      this.#after("token", 5000, () => void this.#renewQuietly());
    }
  }

  // ---- whether anybody is there

  #ping(): void {
    if (this.state !== "up") return;
    const id = ++this.#pingId;
    this.#pings.set(id, performance.now());
    if (this.#pings.size > 8) this.#pings.delete(this.#pings.keys().next().value!);
    this.#pass({ type: "ping", id }, Date.now());
    this.#after("clock", CLOCK_EVERY_MS, () => this.#ping());
  }

  #pong(id: string | number, gatewayAt: number): void {
    const sentAt = this.#pings.get(id as number);
    if (sentAt === undefined) return;
    this.#pings.delete(id as number);
    const epoch = Date.now() - performance.now();
    this.clock.add(sentAt + epoch, performance.now() + epoch, gatewayAt);
  }

  #watch(): void {
    const quietMs = (this.info?.heartbeatMs ?? 15_000) + GRACE_MS;
    this.#after("watch", quietMs - (performance.now() - this.#heardAt), () => {
      if (performance.now() - this.#heardAt < quietMs - 1) return this.#watch();
      this.#probe();
    });
  }

  /** Asks whether anybody is there. A hidden page's timers may be late: only what stays unanswered is dead. */
  #probe(): void {
    const askedAt = performance.now();
    this.#ping();
    this.#after("watch", ANSWER_MS, () => (this.#heardAt >= askedAt ? this.#watch() : this.drop()));
  }

  // ---- what goes

  /** Writes as much as the socket takes, and the rest when it has room. */
  #pump(): void {
    if (this.state === "up" && !this.#write()) this.#after("pump", PUMP_MS, () => this.#pump());
  }

  /** Writes as much as the socket takes; returns whether that is all. */
  #write(): boolean {
    const socket = this.#socket;
    while (socket && socket.readyState === 1 && !this.outbox.isEmpty) {
      if (socket.bufferedAmount > MOST_UNSENT_BYTES) return false;
      const frame = this.outbox.next(Date.now());
      if (!frame) break;
      const { data, message } = frame;
      this.#listener.wire("sent", data.length, typeof data !== "string", message);
      socket.send(data);
    }
    return true;
  }

  /** Writes what is about this connection: it is neither counted nor kept. */
  #pass(message: object, now = Date.now()): void {
    const socket = this.#socket;
    if (!socket || socket.readyState !== 1) return;
    const timed = { ...message, timestamp: now };
    const data = JSON.stringify(timed);
    this.#listener.wire("sent", data.length, false, timed);
    socket.send(data);
  }

  #after(name: string, ms: number, act: () => void): void {
    clearTimeout(this.#timers.get(name));
    this.#timers.set(name, setTimeout(act, Math.min(Math.max(0, ms), MOST_MS)));
  }
}

export function notConnected(): CallError {
  return new CallError("CALL_CLOSED", "The call is not connected; connect() first.");
}

function asCallError(error: unknown): CallError {
  if (error instanceof CallError) return error;
  const text = `There is no connection: ${error instanceof Error ? error.message : String(error)}`;
  return new CallError("CONNECT_FAILED", text, { cause: error, retryable: true });
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
