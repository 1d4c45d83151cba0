import { batch, computed, effect, signal } from "@preact/signals";
import { Call, CallError, MicrophoneError } from "@antiphon/client";
import type { ToolCallEvent } from "@antiphon/client";
import { LEVEL_EVERY_MS } from "../state/levels.js";
import { closedNotice, microphoneNotice, tokenNotice, withNotice, without, type Notice } from "../state/notices.js";
import { Session } from "../state/session.js";
import { FOR_NEXT_CALL, settings, type Settings } from "../state/settings.js";
import { forgetToken, takeToken, takeTokenOfAddress, token } from "../state/token.js";
import { markedAutomatic, parseJson } from "../state/tool_cards.js";
import { EVENT_TYPES } from "./event_types.js";
import { callOptions, microphoneOptions } from "./options.js";

const PASSING_MS = 8000;
const CLOCK_EVERY_MS = 1000;

/** The page's one call: what the user does goes in here, and what comes of it goes to `session`. */
class LiveCall {
  readonly session = new Session();
  readonly call = signal<Call | undefined>(undefined);
  readonly muted = signal(false);
  /** The button of push to talk is down. */
  readonly talking = signal(false);
  readonly clock = signal<{ offsetMs: number; rttMs: number } | undefined>(undefined);
  /** How far a dropped file has been sent, 0 to 1. */
  readonly sending = signal<{ name: string; fraction: number } | undefined>(undefined);
  /** The settings that the present call began with. */
  readonly begunWith = signal<Settings | undefined>(undefined);
  /** Rises when somebody wants to talk without a token: the form for it is to be filled in. */
  readonly tokenWanted = signal(0);
  /** Rises when devices come or go. */
  readonly deviceVersion = signal(0);

  readonly active = computed(() => !["idle", "closed"].includes(this.session.state.value));
  readonly listening = computed(() => this.session.microphone.value.state !== "off");
  /** Settings that were changed since the call began, and count from the next one on. */
  readonly pending = computed(() => {
    const begun = this.begunWith.value;
    return begun && this.active.value ? FOR_NEXT_CALL.filter((name) => begun[name] !== settings.value[name]) : [];
  });

  #connecting: Promise<void> | undefined;
  #sendingStopped: AbortController | undefined;
  #passing: ReturnType<typeof setTimeout> | undefined;

  start(): void {
    setInterval(() => this.#sampleLevels(), LEVEL_EVERY_MS);
    setInterval(() => this.#readClock(), CLOCK_EVERY_MS);
    navigator.mediaDevices?.addEventListener?.("devicechange", () => this.deviceVersion.value++);
    effect(() => this.call.value?.setVolume(settings.value.volume));
    effect(() => this.#passNotices());
    if (!token.value) this.tell(tokenNotice());
  }

  // ---- talking

  /** Opens the microphone, or closes it. Within a click: sound and microphone need one. */
  async toggleMicrophone(): Promise<void> {
    if (this.listening.value) return this.closeMicrophone();
    await this.openMicrophone();
  }

  async openMicrophone(): Promise<boolean> {
    const call = this.#begin();
    if (!call) return false;
    try {
      void call.startAudio();
      await call.openMicrophone({ ...microphoneOptions(settings.value), muted: this.muted.value });
      this.deviceVersion.value++; // devices have names now
      return true;
    } catch (error) {
      this.#refused(error);
      return false;
    }
  }

  async closeMicrophone(): Promise<void> {
    this.talking.value = false;
    await this.call.value?.closeMicrophone();
  }

  /** Push to talk: the button goes down. The first time it opens the microphone, which may ask. */
  async beginTalking(): Promise<void> {
    if (this.talking.value) return;
    this.talking.value = true;
    const ready = this.listening.value || (await this.openMicrophone());
    if (!ready) this.talking.value = false;
    else if (this.talking.value) this.call.value?.startTalking();
  }

  endTalking(): void {
    if (!this.talking.value) return;
    this.talking.value = false;
    this.call.value?.stopTalking();
  }

  setMuted(muted: boolean): void {
    this.muted.value = muted;
    this.call.value?.setMuted(muted);
  }

  async interrupt(): Promise<void> {
    await this.call.value?.interrupt();
  }

  async sendText(text: string): Promise<void> {
    const call = this.#begin();
    if (!call) return;
    void call.startAudio();
    try {
      await this.#connecting;
      call.sendText(text);
    } catch (error) {
      this.#refused(error);
    }
  }

  /** Says what is in an audio file, in real time. */
  async sendFile(file: File): Promise<void> {
    const call = this.#begin();
    if (!call) return;
    void call.startAudio();
    this.#sendingStopped?.abort();
    const stopped = (this.#sendingStopped = new AbortController());
    this.sending.value = { name: file.name, fraction: 0 };
    try {
      await this.#connecting;
      await call.sendFile(file, {
        signal: stopped.signal,
        onProgress: (sentMs, totalMs) => (this.sending.value = { name: file.name, fraction: sentMs / totalMs }),
      });
    } catch (error) {
      const words = error instanceof Error ? error.message : String(error);
      if (!stopped.signal.aborted) this.tell({ about: "file", title: `“${file.name}” could not be sent`, words });
    } finally {
      if (this.#sendingStopped === stopped) this.sending.value = undefined;
    }
  }

  stopSending(): void {
    this.#sendingStopped?.abort();
    this.sending.value = undefined;
  }

  // ---- the call

  async end(): Promise<void> {
    this.stopSending();
    this.talking.value = false;
    const call = this.call.value;
    await call?.disconnect();
    if (this.call.value === call) this.call.value = undefined;
  }

  /** Ends the call, and begins another with the settings of now. */
  async restart(): Promise<void> {
    const listened = this.listening.value;
    const ended = this.end();
    // The next call is made within the click: the last one of this goes on ending by itself.
    this.call.value = undefined;
    if (listened) await this.openMicrophone();
    else this.#begin();
    await ended;
  }

  /** After trouble: connects again, now. */
  tryAgain(): void {
    // A call that waits to reconnect tries at once when the browser says that there is a network again.
    if (this.session.state.value === "reconnecting") this.call.value?.reconnectNow();
    else this.#begin();
  }

  async startAudio(): Promise<void> {
    if (await this.call.value?.startAudio()) this.settle("sound");
  }

  /** Takes a token or a link with one, and goes on with it. */
  useToken(text: string): boolean {
    return this.#went(() => takeToken(text));
  }

  useTokenOfAddress(): boolean {
    return this.#went(takeTokenOfAddress);
  }

  #went(take: () => boolean): boolean {
    if (!take()) return false;
    const connected = this.session.state.value === "connected";
    const wanted = this.session.notices.value.some((notice) => notice.about === "token" && notice.urgent);
    this.settle("token");
    if (connected) void this.call.value?.renew(token.value).catch((error) => this.#refused(error));
    else if (wanted) this.#begin();
    return true;
  }

  // ---- devices

  async setMicrophoneDevice(deviceId: string): Promise<void> {
    if (this.listening.value) await this.call.value?.setMicrophoneDevice(deviceId).catch((error) => this.#refused(error));
  }

  async setOutputDevice(deviceId: string): Promise<void> {
    try {
      await this.call.value?.setOutputDevice(deviceId);
      this.settle("sound");
    } catch (error) {
      this.tell({ about: "sound", title: "The loudspeaker cannot be used", words: (error as Error).message });
    }
  }

  /** Echo cancellation and its like are the device's: it is opened anew. */
  async reopenMicrophone(): Promise<void> {
    if (!this.listening.value || !this.call.value) return;
    await this.call.value.closeMicrophone();
    await this.openMicrophone();
  }

  // ---- notices

  tell(notice: Notice): void {
    this.session.notices.value = withNotice(this.session.notices.value, notice);
  }

  settle(about: Notice["about"]): void {
    this.session.notices.value = without(this.session.notices.value, about);
  }

  // ---- inside

  /** The call that stands, or a new one that connects; undefined where something is in the way, which is told. */
  #begin(): Call | undefined {
    if (!token.value) {
      this.tell(tokenNotice());
      this.tokenWanted.value++;
      return undefined;
    }
    if (this.call.value && this.active.value) return this.call.value;
    try {
      const call = new Call(callOptions(settings.value));
      this.#follow(call);
      batch(() => {
        this.call.value = call;
        this.begunWith.value = settings.value;
      });
      this.#connecting = call.connect();
      this.#connecting.catch((error) => this.#refused(error));
      return call;
    } catch (error) {
      this.#refused(error);
      return undefined;
    }
  }

  #follow(call: Call): void {
    for (const type of EVENT_TYPES) {
      call.on(type, (event) => {
        if (this.call.value !== call && event.type !== "wire") return; // the last words of a call that was ended
        this.session.feed(performance.now(), event);
        if (event.type === "toolCall") this.#answerByRule(event);
        if (event.type === "devicesChanged") this.deviceVersion.value++;
        if (event.type === "closed") this.#over(event.error);
      });
    }
  }

  #answerByRule(call: ToolCallEvent): void {
    const rule = settings.value.answers[call.name];
    if (rule === undefined) return;
    const answer = parseJson(rule);
    if (!answer.ok) return; // the card stays open
    const id = this.session.qualify(call.callId);
    this.session.cards.value = markedAutomatic(this.session.cards.value, id);
    call.respond(answer.value);
  }

  #over(error: CallError | undefined): void {
    batch(() => {
      this.talking.value = false;
      this.clock.value = undefined;
      if (error?.code === "AUTH_TOKEN_INVALID" || error?.code === "AUTH_TOKEN_EXPIRED") forgetToken();
    });
  }

  /** Tells of what was refused, unless an event has done so. */
  #refused(error: unknown): void {
    if (error instanceof MicrophoneError) return this.tell(microphoneNotice(error.kind));
    if (error instanceof CallError) {
      if (error.code !== "CALL_CLOSED") this.tell(closedNotice(error));
      return;
    }
    const words = error instanceof Error ? error.message : String(error);
    this.tell({ about: "connection", title: "That did not work", words, urgent: true });
  }

  #passNotices(): void {
    const passing = this.session.notices.value.find((notice) => notice.passing);
    clearTimeout(this.#passing);
    if (passing) this.#passing = setTimeout(() => this.settle(passing.about), PASSING_MS);
  }

  #sampleLevels(): void {
    const call = this.call.value;
    if (!call || !this.active.value) return;
    const { input, output } = call.levels();
    this.session.levels.push(performance.now(), input, output);
  }

  #readClock(): void {
    const call = this.call.value;
    if (call && this.session.state.value === "connected") this.clock.value = { ...call.clock };
  }
}

export const live = new LiveCall();
