/// <reference lib="esnext.disposable" preserve="true" />
import { Answers } from "./answers.js";
import { Emitter } from "./emitter.js";
import { CallError, MicrophoneError } from "./errors.js";
import type { AgentState, CallEvent, CallEventOf, CallEventType, CallState, MicrophoneState, TurnHopName } from "./events.js";
import type { BaseAnswers } from "./base_answers.js";
import { askForMicrophone } from "./audio/ask.js";
import type { Microphone } from "./audio/microphone.js";
import { Sound } from "./audio/sound.js";
import type { Speaker } from "./audio/speaker.js";
import type { ClientHelloMessage, ExtendedServerMessage, RecognitionResultMessage, SessionInfoMessage, TranscriptUpdateMessage } from "./messages.js";
import type { CallOptions, MicrophoneOptions, OutputOptions, Tool } from "./options.js";
import { DEFAULT_RECONNECT } from "./session/reconnect.js";
import { notConnected, Session, type Connected } from "./session/session.js";
import { openSocket } from "./socket/open.js";
import { Tokens } from "./session/tokens.js";
import { TurnTimer } from "./session/turns.js";
import { Tools } from "./tools.js";
import { Uplink } from "./uplink.js";

const STREAM_RATE_HZ = 16_000;
const BACKLOG_MS = 60_000;
const PLAYBACK_BUFFER_MS = 2000;
const TIMEOUT_MS = 10_000;
const NOT_LOADED = "A part did not load; reload the page."; // as after a deploy
const UNHEARD_MS = 5000; // after which words that were not recognised never will be
const RELEASE_MS = 300; // how long the last words of a push to talk may be on their way from the microphone

/**
 * A conversation with a gateway.
 *
 * Make it, or let `connect()` make it, within a click or a key press: only there does a browser let a page be heard. A lost
 * connection is restored by itself, and nothing is lost (`reconnecting`, `connected`); what cannot be restored is `closed`.
 * All that happens is an event: `on()`, or iterate.
 */
export class Call implements AsyncIterable<CallEvent>, AsyncDisposable {
  #options: CallOptions;
  #emitter = new Emitter();
  #tokens: Tokens;
  #session: Session | undefined;
  #uplink: Uplink | undefined;
  #answers: Answers;
  #baseAnswers: BaseAnswers | undefined;
  #tools: Tools;
  #answersTools: boolean;
  #turns = new TurnTimer();
  #state: CallState = "idle";
  #agent: AgentState = "idle";
  #error: CallError | undefined;
  #connecting: Promise<void> | undefined;
  #closing: Promise<void> | undefined;
  #ended = 0; // how often disconnect() was called: a connect() from before is not to go on
  #sound: Sound | undefined;
  #speaker: Speaker | undefined;
  #speaking: Promise<void> | undefined;
  #microphone: Microphone | undefined;
  #microphoneState: MicrophoneState = "off";
  #asked: Promise<MediaStream> | undefined; // the microphone that is wanted; none where it was closed meanwhile
  #microphoneOptions: MicrophoneOptions;
  #output: OutputOptions;
  #muted = false;
  #talking = false; // between startTalking and stopTalking
  #pressed = false; // the gateway was told of the press
  #released: { at: number; timer: ReturnType<typeof setTimeout> } | undefined;
  #typed = 0;
  #thinking = false;
  #unheard: ReturnType<typeof setTimeout> | undefined; // until when the user's last words have to be recognised
  #sounding = false; // the answer has sound, which is not heard yet
  #playing = false;
  #blocked = false;
  #lastUser = { id: "", text: "", open: false };
  #result: RecognitionResultMessage | undefined; // the recognition_result that its transcript_update follows
  #watching: AbortController | undefined;

  constructor(options: CallOptions) {
    this.#options = options;
    this.#tokens = new Tokens(options.token);
    this.#tools = new Tools((message) => this.#session?.send(message), (event) => this.#emit(event));
    this.#answersTools = options.tools !== undefined;
    for (const [name, tool] of Object.entries(options.tools ?? {})) this.#tools.register(name, tool);
    // What is only true or false has no options.
    this.#microphoneOptions = { ...(options.microphone as MicrophoneOptions) };
    this.#output = { ...(options.output as OutputOptions) };
    const call = this;
    this.#answers = new Answers({
      get player() {
        return call.#speaker;
      },
      get extended() {
        return call.#session?.extended ?? false;
      },
      emit: (event) => this.#emit(event),
      send: (message) => this.#open?.send(message),
      begun: (responseId) => this.#turns.responded(responseId),
      arrived: (responseId, timestamp) => this.#arrived(responseId, timestamp),
    });
  }

  // ---- how it stands

  get state(): CallState {
    return this.#state;
  }

  get agentState(): AgentState {
    return this.#agent;
  }

  /** Why it is over; undefined while it is not, and after `disconnect()`. */
  get error(): CallError | undefined {
    return this.#error;
  }

  get sessionId(): string {
    return this.#session?.id ?? "";
  }

  get userId(): string {
    return this.#session?.userId ?? "";
  }

  /** What the gateway offers; undefined in a base session. */
  get info(): SessionInfoMessage | undefined {
    return this.#session?.info;
  }

  /** The gateway's clock less ours, and the best round trip of the last two minutes: half of that is its uncertainty. */
  get clock(): { offsetMs: number; rttMs: number } {
    const { offsetMs = 0, rttMs = 0 } = this.#session?.clock ?? {};
    return { offsetMs, rttMs };
  }

  /** How much of what was said is not safe at the gateway yet. */
  get backlogMs(): number {
    return this.#session?.outbox.audioMs ?? 0;
  }

  // ---- connecting

  /**
   * Opens a session, and the microphone where the options ask for it. Rejects with CallError where there is no connection,
   * with MicrophoneError where there is no microphone: catch that, and go on without one if you like.
   */
  connect(): Promise<void> {
    if (this.#closing) {
      this.#wakeSound(); // in the click
      const ended = this.#ended;
      return this.#closing.then(() => (this.#checkEnded(ended), this.connect()));
    }
    if (this.#isOver) this.#connecting = this.#connect();
    return this.#connecting!;
  }

  async #connect(): Promise<void> {
    if (this.#options.output !== false) this.#wakeSound();
    const wanted = this.#options.microphone && this.#microphoneState === "off";
    const microphone = wanted ? this.openMicrophone() : Promise.resolve();
    microphone.catch(() => {}); // it is awaited below
    const ended = this.#ended;
    this.#error = undefined;
    this.#emitter.begin();
    this.#enter("connecting");
    await this.#speaking; // so that the gateway is told what is played here
    this.#checkEnded(ended);
    const session = this.#makeSession();
    if (this.#talking) this.#press();
    try {
      await session.open();
      if (!session.extended) {
        const { BaseAnswers } = await import("./base_answers.js");
        this.#baseAnswers ??= new BaseAnswers(this.#answers, (event) => this.#emit(event));
      }
      await microphone;
      await this.#loadSound();
    } catch (error) {
      if (this.#session === session) await this.#close(error instanceof CallError ? error : undefined);
      throw error;
    }
  }

  /** Throws where disconnect() was called meanwhile. */
  #checkEnded(before: number): void {
    if (before !== this.#ended) throw notConnected();
  }

  /** Sends what was said to the last sample, and ends the session. */
  disconnect(): Promise<void> {
    this.#ended++;
    return this.#close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.disconnect();
  }

  /** Shows the gateway another token for the same user now; the source is asked where none is given. */
  async renew(token?: string): Promise<void> {
    if (this.#session) await this.#session.renew(token);
    else if (token !== undefined) this.#tokens.use(token);
  }

  /** Tries to come back now, where it waits to be connected again. */
  reconnectNow(): void {
    this.#session?.hurry();
  }

  // ---- the microphone

  get microphone(): { state: MicrophoneState; label: string; deviceId: string; settings: MediaTrackSettings | undefined } {
    const { label = "", deviceId = "", settings } = this.#microphone ?? {};
    return { state: this.#microphoneState, label, deviceId, settings };
  }

  /** Opens the microphone, within a click. Rejects with MicrophoneError, whose `kind` says what is in the way. */
  async openMicrophone(options: MicrophoneOptions = this.#microphoneOptions): Promise<void> {
    this.#microphoneOptions = options;
    this.#muted = options.muted ?? this.#muted;
    const before = this.#microphone;
    this.#microphone = undefined;
    let asked: Promise<MediaStream> | undefined;
    try {
      const sound = this.#wakeSound();
      if (!sound) throw new MicrophoneError("unsupported", "There is no microphone here; use sendAudio().");
      this.#enterMicrophone("asking");
      this.#asked = asked = askForMicrophone(options);
      asked.catch(() => {}); // it is awaited below
      await before?.stop();
      const { Microphone } = await import("./audio/microphone.js").catch(async (cause: unknown) => {
        for (const track of (await asked!).getTracks()) track.stop();
        throw new MicrophoneError("unsupported", NOT_LOADED, cause);
      });
      const listener = {
        audio: (samples: Int16Array, at: number) => this.#heard(samples, at),
        ended: (error: MicrophoneError) => void this.#lostMicrophone(error),
        silent: (silent?: MicrophoneError) => this.#enterMicrophone(this.#onOrMuted, silent),
        replaced: () => this.#enterMicrophone(this.#onOrMuted),
      };
      const microphone = await Microphone.open(sound, options, listener, asked, this.#options.wakeLock);
      if (this.#asked !== asked) return await microphone.stop(); // closed, or opened anew, while it was asked for
      this.#microphone = microphone;
      microphone.muted = this.#muted;
    } catch (error) {
      if (this.#asked === asked) this.#enterMicrophone("off", error instanceof MicrophoneError ? error : undefined);
      throw error;
    }
    this.#enterMicrophone(this.#onOrMuted);
  }

  /** Closes it; what it heard is recognised to the last sample. */
  async closeMicrophone(): Promise<void> {
    const microphone = this.#microphone;
    this.#microphone = undefined;
    this.#enterMicrophone("off");
    await microphone?.stop();
    await this.#uplink?.end();
  }

  /** Nothing is sent while it is muted; what was said before is recognised. */
  setMuted(muted: boolean): void {
    if (this.#muted === muted) return;
    this.#muted = muted;
    this.#microphoneOptions = { ...this.#microphoneOptions, muted };
    if (!this.#microphone) return;
    this.#microphone.muted = muted;
    if (muted) void this.#uplink?.end();
    this.#enterMicrophone(this.#onOrMuted);
  }

  /** Takes another microphone, now or when one is opened. Where it cannot be had the one before stays, and it rejects. */
  async setMicrophoneDevice(deviceId: string): Promise<void> {
    const before = this.#microphoneOptions;
    const options = { ...before, deviceId };
    if (this.#microphoneState === "off") return void (this.#microphoneOptions = options);
    try {
      await this.openMicrophone(options);
    } catch (error) {
      await this.openMicrophone(before);
      throw error;
    }
  }

  /** Push to talk: the user begins to speak, over an answer too. Needs the option `pushToTalk`. */
  startTalking(): void {
    this.#settleRelease();
    this.#talking = true;
    void this.startAudio();
    this.#press();
  }

  /** Tells the gateway of the press, before what is said in it; where there is no session yet, once there is one. */
  #press(): void {
    const session = this.#open;
    if (!session || this.#pressed) return;
    this.#pressed = true;
    if (session.extended) session.send({ type: "activity_start" });
    else if (this.#playing) void this.interrupt();
  }

  /** Push to talk: he has spoken, and is answered. */
  stopTalking(): void {
    if (!this.#talking || this.#released) return;
    // The last words are on their way from the microphone: they belong to what is said.
    this.#released = { at: performance.now(), timer: setTimeout(() => this.#settleRelease(), RELEASE_MS) };
    if (!this.#microphone) this.#settleRelease();
  }

  // ---- other audio

  /** Sends samples as if they were spoken now: mono, 16 bit. A stream is opened where none is open. */
  sendAudio(samples: Int16Array, rateHz = STREAM_RATE_HZ): void {
    if (!this.#uplink) throw notConnected();
    if (!(rateHz >= 8000 && rateHz <= 48_000)) {
      throw new CallError("AUDIO_UNSUPPORTED", "It takes 8 to 48 kHz.");
    }
    this.#uplink.take(samples, performance.now() - (1000 * samples.length) / rateHz, rateHz);
  }

  /** Ends the audio stream: all that was sent is recognised and answered. */
  async endAudio(): Promise<void> {
    const uplink = this.#uplink;
    if (!uplink?.open) return;
    this.#endedSpeech("speech", performance.now());
    await uplink.end();
  }

  /** Sends a file of audio, of any kind that the browser decodes, in real time as if it were spoken. */
  async sendFile(
    file: Blob,
    { signal, onProgress }: { signal?: AbortSignal; onProgress?: (sentMs: number, totalMs: number) => void } = {},
  ): Promise<void> {
    const { sendFile } = await import("./audio/file.js");
    await sendFile(this, file, signal, onProgress);
  }

  // ---- the conversation

  /** Sends a typed turn, with any JSON object that goes to the model with it. */
  sendText(text: string, context?: Record<string, unknown>): void {
    const session = this.#open;
    if (!session) throw notConnected();
    session.send({ type: "command", command: text, ...(context ? { context } : {}) });
    this.#baseAnswers?.userFinal();
    const utteranceId = `typed${++this.#typed}`;
    this.#lastUser = { id: utteranceId, text, open: false };
    this.#emit({ type: "transcript", role: "user", utteranceId, text, isFinal: true, typed: true });
    this.#turns.ended("typed", performance.now(), utteranceId);
    this.#think();
  }

  /** Silence, at once; the model is told. Resolves with what was heard of the answer, in samples that were played. */
  interrupt(): Promise<{ playedMs: number; droppedMs: number }> {
    return (this.#baseAnswers ?? this.#answers).interrupt();
  }

  /** Lets a function carry out the model's calls of that name; the function that is returned takes it back. */
  registerTool(name: string, tool: Tool): () => void {
    const remove = this.#tools.register(name, tool);
    if (!this.#answersTools) {
      this.#answersTools = true;
      if (this.#session?.extended) this.#session.send(this.#hello());
    }
    return remove;
  }

  /** Lets a gateway in development lose the token or the model's connection: to see what survives that. */
  provoke(what: "rotation" | "token_expiry"): void {
    this.#session?.send({ type: "provoke", what });
  }

  // ---- what is heard

  /** The audio context, with an analyser for each side; made by the first click that needs it. */
  get sound(): Sound | undefined {
    return this.#sound;
  }

  /** Whether answers can be heard now: browsers wait for a click. */
  get canPlay(): boolean {
    return this.#sound?.context.state === "running";
  }

  /** Lets answers be heard, within a click. Returns whether they are. */
  async startAudio(): Promise<boolean> {
    const heard = this.#wakeSound()?.resume(); // at once, as it counts only in the click
    await this.#loadSound();
    return (await heard) ?? false;
  }

  /** 0 to 1. */
  setVolume(volume: number): void {
    this.#output.volume = volume;
    this.#sound?.setVolume(volume);
  }

  /** Rejects where the browser lets nobody choose, or has no such device. */
  async setOutputDevice(deviceId: string): Promise<void> {
    await this.#sound?.setOutputDevice(deviceId);
    this.#output.deviceId = deviceId;
  }

  /** How loud both sides are right now: root mean square, 0 to 1. Ask as often as it is shown. */
  levels(): { input: number; output: number } {
    return this.#sound?.levels() ?? { input: 0, output: 0 };
  }

  // ---- events

  /** Calls `listener` with each event of a type, at once; the function that is returned ends that. */
  on<T extends CallEventType>(type: T, listener: (event: CallEventOf<T>) => void): () => void {
    return this.#emitter.on(type, listener);
  }

  /** Iterates over the events of these types; without any, over all but `wire`. Ends when the call is closed. */
  events(): AsyncGenerator<CallEvent, void>;
  events<T extends CallEventType>(...types: T[]): AsyncGenerator<CallEventOf<T>, void>;
  events(...types: CallEventType[]): AsyncGenerator<CallEvent, void> {
    return this.#emitter.iterate(types);
  }

  [Symbol.asyncIterator](): AsyncGenerator<CallEvent, void> {
    return this.#emitter.iterate();
  }

  // ---- the session

  /** The session, unless it is over. */
  get #open(): Session | undefined {
    return this.#session?.state === "over" ? undefined : this.#session;
  }

  #makeSession(): Session {
    const { base = false, url, reconnect, maxBacklogMs = BACKLOG_MS, timeoutMs = TIMEOUT_MS, socket = openSocket } = this.#options;
    const session: Session = new Session(
      {
        url: absolute(url),
        base,
        hello: () => this.#hello(),
        tokens: this.#tokens,
        reconnect: reconnect === false ? undefined : { ...DEFAULT_RECONNECT, ...reconnect },
        maxBacklogMs,
        timeoutMs,
        socket,
      },
      {
        connected: (how) => this.#connected(session, how),
        lost: (attempt, delayMs, { code, message: reason }) => {
          this.#enter("reconnecting");
          this.#emit({ type: "reconnecting", attempt, delayMs, code, reason });
        },
        over: (error) => void this.#close(error),
        message: (message) => this.#take(message),
        piece: (data, timestamp) => this.#answers.piece(data, timestamp),
        dropped: (ms) => this.#emit({ type: "audioDropped", ms }),
        wire: (direction, bytes, binary, message) => {
          if (!this.#emitter.has("wire")) return;
          this.#emit({ type: "wire", direction, at: performance.now(), bytes, binary, message });
        },
      },
    );
    this.#uplink = new Uplink(session, this.#options.encoder, () => this.#language, (error) => this.#failed(error));
    this.#session = session;
    return session;
  }

  /** What this client can do. Commands that are no tools are called where somebody says that he answers them. */
  #hello(): ClientHelloMessage {
    const { playbackBufferMs = PLAYBACK_BUFFER_MS } = this.#options;
    const features = ["response_timing"];
    if (this.#speaker) features.push("playback_mark");
    if (this.#answersTools) features.push("tools");
    return { type: "client_hello", features, binaryAudio: true, playbackBufferMs };
  }

  #connected(session: Session, how: Connected): void {
    if (!how.recovered) {
      this.#forget();
      this.#speaker?.forget();
      if (how.lossy) this.#uplink?.moved(session.outbox.audioMs);
    }
    this.#enter("connected");
    this.#emit({ type: "connected", sessionId: session.id, userId: session.userId, ...how });
    this.#watch();
    this.#showAgent();
  }

  #close(error?: CallError): Promise<void> {
    this.#closing ??= this.#end(error).finally(() => (this.#closing = undefined));
    return this.#closing;
  }

  async #end(error?: CallError): Promise<void> {
    if (this.#isOver) {
      if (this.#microphoneState !== "off") await this.closeMicrophone();
      return;
    }
    const session = this.#session;
    const microphone = this.#microphone;
    this.#microphone = undefined;
    this.#settleRelease();
    await microphone?.stop();
    if (this.#open) await this.#uplink?.end();
    await session?.close();
    this.#watching?.abort();
    this.#watching = undefined;
    this.#forget();
    this.#baseAnswers = undefined;
    if (error === undefined) void this.#speaker?.flush();
    this.#error = error;
    this.#uplink = undefined;
    this.#pressed = this.#talking = this.#thinking = false;
    if (this.#microphoneState !== "off") this.#enterMicrophone("off");
    this.#enter("closed");
    this.#showAgent();
    this.#emit({ type: "closed", error });
    this.#emitter.end();
  }

  /** Forgets what a session that is over has left unfinished. */
  #forget(): void {
    this.#answers.end();
    this.#baseAnswers?.end();
    this.#tools.end();
    this.#turns.forget();
    clearTimeout(this.#unheard);
    this.#sounding = false;
  }

  get #isOver(): boolean {
    return this.#state === "idle" || this.#state === "closed";
  }

  // ---- what comes

  #take(message: ExtendedServerMessage): void {
    switch (message.type) {
      case "recognition_result":
        return this.#recognised(message);
      case "transcript_update":
        return this.#updated(message);
      case "audio_response":
        this.#baseAnswers?.take(message);
        return this.#answers.message(message);
      case "speech_started":
      case "speech_stopped":
        return this.#speech(message.type === "speech_started", message.streamMs);
      case "response_started":
        return this.#answers.started(message);
      case "response_timing": {
        const { responseId, speechEndedAt: uplink, transcribedAt: endpoint, modelAt: model, audioAt: synthesis } = message;
        for (const [hop, at] of Object.entries({ uplink, endpoint, model, synthesis })) {
          this.#turns.reached(responseId, hop as TurnHopName, this.#local(at));
        }
        return;
      }
      case "response_done":
        this.#answers.done(message);
        return this.#thought();
      case "audio_flush":
        this.#sounding = false;
        return this.#answers.flushed(message);
      case "tool_call":
        return this.#tools.called(message);
      case "tool_cancelled":
        return this.#tools.cancelled(message);
      case "session_rotating":
      case "session_rotated": {
        const { type, timestamp: _, ...fields } = message;
        const stage = type === "session_rotating" ? "rotating" : "rotated";
        return this.#emit({ replayedAudioMs: 0, upstream: "primary", ...fields, type: "rotation", stage });
      }
      case "go_away":
        return this.#emit({ type: "goAway", timeLeftMs: message.timeLeftMs, reason: message.reason });
      case "usage":
        return this.#emit({ type: "usage", turn: message.turn, session: message.session });
      case "error":
        return this.#refused(message.code, message.message, message.details);
    }
  }

  #refused(code: string, message: string, details: any): void {
    if (code === "AUDIO_UNSUPPORTED") {
      this.#uplink?.lost();
      if (this.#microphone) void this.closeMicrophone(); // what it hears cannot be heard there
    }
    this.#failed({ code, message, details });
    if (/^(UPSTREAM|SERVER)_/.test(code)) this.#thought();
  }

  /** An extended session's result is followed by its transcript_update, but where it comes once more with its command. */
  #recognised(result: RecognitionResultMessage): void {
    const { transcript: text, command, isFinal, confidence } = result;
    const last = this.#lastUser;
    const again = isFinal && command !== undefined && !last.open && text === last.text;
    if (again) return this.#emit({ type: "command", name: command, transcript: text, utteranceId: last.id });
    if (this.#session?.extended) {
      this.#result = result;
      return;
    }
    const id = last.open ? last.id : `u${++this.#typed}`;
    this.#user(id, text, isFinal, confidence, command);
    if (isFinal) this.#baseAnswers?.userFinal();
  }

  #updated({ role, utteranceId, text, isFinal, timestamp }: TranscriptUpdateMessage): void {
    if (role === "model") return this.#emit({ type: "transcript", role, utteranceId, text, isFinal });
    const result = this.#result;
    this.#result = undefined;
    if (isFinal) this.#turns.transcribed(this.#local(timestamp), utteranceId);
    this.#user(utteranceId, text, isFinal, result?.confidence, result?.command);
  }

  #user(utteranceId: string, text: string, isFinal: boolean, confidence?: number, command?: string): void {
    clearTimeout(this.#unheard);
    this.#lastUser = { id: utteranceId, text, open: !isFinal };
    this.#emit({ type: "transcript", role: "user", utteranceId, text, isFinal, confidence: confidence || undefined });
    if (command !== undefined) this.#emit({ type: "command", name: command, transcript: text, utteranceId });
  }

  #speech(speaking: boolean, streamMs: number): void {
    const told = !speaking && !this.#options.pushToTalk; // else the button tells
    const endedAt = told ? this.#uplink?.capturedAt(streamMs) : undefined;
    if (endedAt !== undefined) this.#endedSpeech("speech", endedAt);
    this.#emit({ type: "speech", speaking, streamMs });
  }

  #endedSpeech(origin: "speech" | "pushToTalk", at: number): void {
    this.#turns.ended(origin, at);
    this.#think();
    clearTimeout(this.#unheard);
    this.#unheard = setTimeout(() => this.#thought(), UNHEARD_MS);
  }

  #arrived(responseId: string, timestamp: number): void {
    this.#sounding = this.#speaker !== undefined;
    this.#turns.reached(responseId, "gateway", this.#local(timestamp));
    this.#turns.reached(responseId, "network", performance.now());
    if (!this.#speaker) this.#measured(responseId, performance.now(), "network");
    this.#thought();
  }

  #measured(responseId: string, at: number, hop: "playback" | "network"): void {
    const metrics = this.#turns.heard(responseId, at, hop, this.clock.rttMs / 2);
    if (metrics) this.#emit({ type: "turn", metrics });
  }

  /** A time of the gateway's clock by performance.now(); undefined where nobody knows. */
  #local(timestamp: number | undefined): number | undefined {
    const clock = this.#session?.clock;
    if (timestamp === undefined || !clock?.known) return undefined;
    return timestamp - clock.offsetMs - (Date.now() - performance.now());
  }

  // ---- sound

  /** Has an audio context that runs, where there can be one; only a click may make it. */
  #wakeSound(): Sound | undefined {
    if (typeof AudioContext === "undefined") return undefined;
    if (this.#sound?.alive) return this.#sound;
    this.#speaker?.close();
    void this.#sound?.close();
    const { workletUrl } = this.#options;
    const { deviceId: outputDeviceId, volume } = this.#output;
    const sound = new Sound({ workletUrl, outputDeviceId, volume });
    this.#sound = sound;
    this.#playing = false;
    if (this.#options.output !== false) this.#speaking = this.#loadSpeaker(sound);
    sound.context.onstatechange = () => this.#showBlocked();
    if (this.#microphone) void this.openMicrophone().catch(() => {}); // which says itself what is in the way
    return sound;
  }

  async #loadSpeaker(sound: Sound): Promise<void> {
    try {
      const { Speaker } = await import("./audio/speaker.js");
      if (this.#sound !== sound) return;
      this.#speaker = new Speaker(sound, {
        started: (responseId, at, playedMs) => this.#played(responseId, at, playedMs),
        progress: (responseId, playedMs) => this.#answers.progress(responseId, playedMs),
        ended: (responseId, playedMs) => this.#silent(responseId, playedMs),
      });
    } catch (cause) {
      if (!(cause instanceof TypeError)) throw cause; // which import() rejects with
      this.#failed({ code: "UNSUPPORTED", message: NOT_LOADED });
    }
  }

  /** Has the worklet, and says whether it is heard. A call without sound is a call: words can be read. */
  async #loadSound(): Promise<void> {
    const sound = this.#sound;
    if (!sound) return;
    try {
      await sound.load();
      if (this.#sound === sound && !(await sound.resume())) this.#showBlocked();
    } catch (error) {
      if (!(error instanceof CallError)) throw error;
      this.#failed(error);
    }
  }

  #showBlocked(): void {
    const blocked = !this.canPlay;
    if (blocked === this.#blocked) return;
    this.#blocked = blocked;
    this.#emit({ type: "playbackBlocked", blocked });
  }

  #played(responseId: string, at: number, playedMs: number): void {
    this.#playing = true;
    this.#sounding = false;
    this.#measured(responseId, at, "playback");
    this.#emit({ type: "playback", playing: true, responseId, playedMs });
    this.#thought();
  }

  #silent(responseId: string, playedMs: number): void {
    this.#playing = false;
    this.#answers.progress(responseId, playedMs);
    this.#emit({ type: "playback", playing: false, responseId, playedMs });
    this.#showAgent();
  }

  #heard(samples: Int16Array, at: number): void {
    if (!this.#uplink || this.#muted) return;
    if (this.#options.pushToTalk && !this.#talking) return;
    this.#uplink.take(samples, at, STREAM_RATE_HZ);
    const endedAt = at + (1000 * samples.length) / STREAM_RATE_HZ;
    if (this.#released && endedAt >= this.#released.at) this.#settleRelease();
  }

  /** Ends what was said by push to talk, now that all of it is here. */
  #settleRelease(): void {
    const released = this.#released;
    if (!released) return;
    clearTimeout(released.timer);
    this.#released = undefined;
    this.#talking = this.#pressed = false;
    const session = this.#open;
    if (!session) return;
    this.#endedSpeech("pushToTalk", released.at);
    if (session.extended) session.send({ type: "activity_end" });
    else void this.#uplink?.end();
  }

  async #lostMicrophone(error: MicrophoneError): Promise<void> {
    await this.closeMicrophone();
    this.#enterMicrophone("off", error);
  }

  get #onOrMuted(): MicrophoneState {
    return this.#muted ? "muted" : "on";
  }

  #enterMicrophone(state: MicrophoneState, error?: MicrophoneError): void {
    this.#microphoneState = state;
    if (state === "off") this.#asked = undefined;
    this.#emit({ type: "microphone", state, label: this.#microphone?.label, error });
    this.#showAgent();
  }

  // ---- the page

  /** Looks after what a page goes through: it is hidden, it is online again, devices come and go. */
  #watch(): void {
    if (this.#watching || typeof document === "undefined") return;
    this.#watching = new AbortController();
    const { signal } = this.#watching;
    const back = (): void => {
      if (!document.hidden) this.#session?.hurry();
    };
    document.addEventListener("visibilitychange", back, { signal });
    addEventListener("online", back, { signal });
    navigator.mediaDevices?.addEventListener("devicechange", () => this.#emit({ type: "devicesChanged" }), { signal });
  }

  get #language(): string {
    const tag = this.#options.language ?? globalThis.navigator?.language ?? "en-US";
    return /^[a-z]{2,8}(-\w{1,8})*/i.exec(tag)?.[0] ?? "en-US"; // some browsers say "en-US@posix"
  }

  // ---- telling

  #think(): void {
    this.#thinking = true;
    this.#showAgent();
  }

  /** It thinks no more, unless there is sound that is about to be heard. */
  #thought(): void {
    if (!this.#sounding || this.#blocked) this.#thinking = false;
    this.#showAgent();
  }

  #showAgent(): void {
    let agent: AgentState = "idle";
    if (this.#playing || (!this.#speaker && this.#answers.receiving)) agent = "speaking";
    else if (this.#state !== "connected" && this.#state !== "reconnecting") agent = "idle";
    else if (this.#thinking) agent = "thinking";
    else if (this.#microphoneState === "on") agent = "listening";
    if (agent === this.#agent) return;
    this.#agent = agent;
    this.#emit({ type: "agentState", state: agent });
  }

  #enter(state: CallState): void {
    if (this.#state === state) return;
    this.#state = state;
    this.#emit({ type: "state", state });
  }

  #failed({ code, message, details }: Omit<CallEventOf<"error">, "type">): void {
    this.#emit({ type: "error", code, message, details });
  }

  #emit(event: CallEvent): void {
    this.#emitter.emit(event);
  }
}

/**
 * Connects, and returns the call; within a click or a key press, so that it can be heard.
 *
 * Rejects with CallError where there is no connection, with MicrophoneError where there is no microphone.
 */
export async function connect(options: CallOptions): Promise<Call> {
  const call = new Call(options);
  await call.connect();
  return call;
}

/** The gateway's address; relative ones are the page's, as http is ws. */
function absolute(url: string | URL): string {
  const here = typeof location === "undefined" ? undefined : location.href;
  try {
    return new URL(url, here).href.replace(/^http/, "ws").replace(/#.*$/, "");
  } catch {
    throw new CallError("CONNECT_FAILED", `${url} is no gateway's address; one looks like wss://host/ws.`);
  }
}
