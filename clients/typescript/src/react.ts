/** Hooks for React 18 or newer. Levels are no state: they would draw everything anew with every frame. */

import { useCallback, useEffect, useRef, useState, useSyncExternalStore, type RefObject } from "react";
import { Call } from "./call.js";
import { Conversation, type Turn } from "./conversation.js";
import { CallError, MicrophoneError } from "./errors.js";
import type { AgentState, CallEvent, CallState, MicrophoneState, ToolCallEvent } from "./events.js";
import type { CallOptions } from "./options.js";

/** How a call stands, for a display. A new object whenever something of it has changed. */
export interface CallSnapshot {
  state: CallState;
  agentState: AgentState;
  microphone: MicrophoneState;
  turns: readonly Turn[];
  /** The model's calls that nobody has answered yet. */
  toolCalls: readonly ToolCallEvent[];
  /** The browser lets nothing be heard before a click: call `call.startAudio()` in one. */
  playbackBlocked: boolean;
  /** What is in the way: of the connection, or of the microphone. */
  error: CallError | MicrophoneError | undefined;
}

export interface UseCall extends CallSnapshot {
  call: Call;
  /** Connects; call it in a click. What fails is `error`. */
  start(): Promise<void>;
  /** Ends the call. */
  stop(): Promise<void>;
}

/** Collects a call's events into snapshots. */
class Store {
  readonly call: Call;
  #conversation = new Conversation();
  #listeners = new Set<() => void>();
  #off: (() => void)[] = [];
  snapshot: CallSnapshot;

  constructor(options: CallOptions) {
    this.call = new Call(options);
    const { state, agentState } = this.call;
    this.snapshot = {
      state,
      agentState,
      microphone: "off",
      turns: [],
      toolCalls: [],
      playbackBlocked: false,
      error: undefined,
    };
  }

  subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    if (this.#listeners.size === 1) this.#listen();
    return () => {
      this.#listeners.delete(listener);
      if (this.#listeners.size === 0) for (const off of this.#off.splice(0)) off();
    };
  };

  set(change: Partial<CallSnapshot>): void {
    this.snapshot = { ...this.snapshot, ...change };
    for (const listener of this.#listeners) listener();
  }

  #listen(): void {
    for (const type of ["connected", "transcript", "command", "interrupted", "response", "turn"] as const) {
      this.#off.push(this.call.on(type, (event: CallEvent) => this.#converse(event)));
    }
    const without = ({ callId }: { callId: string }): void =>
      this.set({ toolCalls: this.snapshot.toolCalls.filter((one) => one.callId !== callId) });
    this.#off.push(
      this.call.on("state", ({ state }) => this.set({ state })),
      this.call.on("agentState", ({ state }) => this.set({ agentState: state })),
      this.call.on("microphone", ({ state, error }) => this.set({ microphone: state, ...(error ? { error } : {}) })),
      this.call.on("closed", ({ error }) => this.set({ error })),
      this.call.on("playbackBlocked", ({ blocked }) => this.set({ playbackBlocked: blocked })),
      this.call.on("toolCall", (event) => this.set({ toolCalls: [...this.snapshot.toolCalls, event] })),
      this.call.on("toolDone", without),
      this.call.on("toolCancelled", without),
    );
  }

  #converse(event: CallEvent): void {
    if (this.#conversation.apply(event)) this.set({ turns: this.#conversation.turns });
  }
}

/** A call of this component: made once, with the options of the first time, and ended when the component goes. */
export function useCall(options: CallOptions): UseCall {
  const [store] = useState(() => new Store(options));
  const snapshot = useSyncExternalStore(store.subscribe, () => store.snapshot, () => store.snapshot);
  useEffect(() => () => void store.call.disconnect(), [store]);
  const start = useCallback(async () => {
    store.set({ error: undefined });
    try {
      await store.call.connect();
    } catch (error) {
      if (!(error instanceof CallError || error instanceof MicrophoneError)) throw error;
      if ((error as CallError).code !== "CALL_CLOSED") store.set({ error }); // else it was ended here meanwhile
    }
  }, [store]);
  const stop = useCallback(() => store.call.disconnect(), [store]);
  return { ...snapshot, call: store.call, start, stop };
}

/**
 * Sets the CSS variables `--input` and `--output` of an element to how loud both sides are, 0 to 1, as often as the screen is
 * drawn: nothing is rendered for it.
 */
export function useLevels<T extends HTMLElement>(call: Call): RefObject<T | null> {
  const ref = useRef<T>(null);
  useEffect(() => {
    let frame = 0;
    const draw = (): void => {
      const { input, output } = call.levels();
      ref.current?.style.setProperty("--input", input.toFixed(3));
      ref.current?.style.setProperty("--output", output.toFixed(3));
      frame = requestAnimationFrame(draw);
    };
    draw();
    return () => cancelAnimationFrame(frame);
  }, [call]);
  return ref;
}
