import { batch, computed, signal } from "@preact/signals";
import { Conversation } from "@antiphon/client";
import type { AgentState, CallEvent, CallState, MicrophoneState, Turn, Usage } from "@antiphon/client";
import { LevelHistory } from "./levels.js";
import { RawLog } from "./log.js";
import { turnsAfter, type MeasuredTurn } from "./metrics.js";
import { noticesAfter, type Notices } from "./notices.js";
import { EMPTY_TIMELINE, timelineAfter, type Timeline } from "./timeline.js";
import { cardsAfter, type ToolCard } from "./tool_cards.js";

const MOST_EVENTS = 20_000;

export interface RecordedEvent {
  at: number;
  event: CallEvent;
}

/** All that is known of the calls of one page, or of a replay: events come in by `feed`, signals tell of them. */
export class Session {
  readonly state = signal<CallState>("idle");
  readonly agent = signal<AgentState>("idle");
  readonly microphone = signal<{ state: MicrophoneState; label: string }>({ state: "off", label: "" });
  readonly identity = signal({ sessionId: "", userId: "" });
  /** What was said; `at` is performance.now(). */
  readonly rows = signal<readonly Turn[]>([]);
  readonly cards = signal<readonly ToolCard[]>([]);
  readonly timeline = signal<Timeline>(EMPTY_TIMELINE);
  readonly turns = signal<readonly MeasuredTurn[]>([]);
  readonly notices = signal<Notices>([]);
  readonly usage = signal<Usage | undefined>(undefined);
  readonly log = new RawLog();
  /** Rises with every message of the log. */
  readonly logVersion = signal(0);
  readonly levels = new LevelHistory();

  /** What the utterance of a response is, and the other way round. */
  readonly partners = computed(() => {
    const partners = new Map<string, string>();
    for (const { id, utteranceId } of this.turns.value) {
      if (utteranceId) partners.set(id, utteranceId).set(utteranceId, id);
    }
    return partners;
  });

  #conversation = new Conversation();
  #clearedAt = -Infinity;
  #call = 0;
  #events: RecordedEvent[] = [];
  #forgotten = 0;

  /** Ids begin anew with every session of the gateway; this makes them unique, as `Conversation` does. */
  readonly #qualify = (id: string): string => `${this.#call}.${id}`;

  /** Everything but the messages of the wire, which are in the log. */
  get events(): readonly RecordedEvent[] {
    return this.#events;
  }

  /** How many of the oldest events are no longer kept. */
  get forgotten(): number {
    return this.#forgotten;
  }

  qualify(id: string): string {
    return this.#qualify(id);
  }

  /** Takes in an event that came at `at`, performance.now(). */
  feed(at: number, event: CallEvent): void {
    batch(() => {
      if (event.type === "wire") {
        this.log.add(event, this.#qualify);
        this.logVersion.value++;
        return;
      }
      if (event.type === "connected" && !event.recovered) this.#call++;
      if (event.type !== "audio") this.#record(at, event);
      this.#note(event);
      this.timeline.value = timelineAfter(this.timeline.value, at, event, this.#qualify);
      this.cards.value = cardsAfter(this.cards.value, at, event, this.#qualify);
      this.notices.value = noticesAfter(this.notices.value, at, event);
      if (this.#conversation.apply(event, at) || event.type === "closed") this.#showConversation();
    });
  }

  /** Forgets what was before `at`; what is still going on goes on. */
  clear(at: number): void {
    batch(() => {
      this.#clearedAt = at;
      this.rows.value = this.turns.value = [];
      this.#events = [];
      this.#forgotten = 0;
      this.cards.value = this.cards.value.filter(({ state }) => state === "open");
      this.timeline.value = EMPTY_TIMELINE;
      this.usage.value = undefined;
      this.levels.clear();
      this.log.clear();
      this.logVersion.value++;
    });
  }

  #note(event: CallEvent): void {
    switch (event.type) {
      case "state":
        this.state.value = event.state;
        break;
      case "agentState":
        this.agent.value = event.state;
        break;
      case "connected":
        this.identity.value = { sessionId: event.sessionId, userId: event.userId };
        break;
      case "microphone":
        this.microphone.value = { state: event.state, label: event.label ?? this.microphone.value.label };
        break;
      case "usage":
        this.usage.value = event.session;
        break;
      case "turn":
        this.turns.value = turnsAfter(this.turns.value, event.metrics, this.#qualify);
        break;
    }
  }

  /** What a session that is over left unfinished stays as it is. */
  #showConversation(): void {
    const over = this.state.value === "closed";
    const present = this.#qualify("");
    this.rows.value = this.#conversation.turns
      .filter((turn) => turn.at > this.#clearedAt)
      .map((turn) => (turn.isFinal || (!over && turn.id.startsWith(present)) ? turn : { ...turn, isFinal: true }));
  }

  #record(at: number, event: CallEvent): void {
    this.#events.push({ at, event });
    if (this.#events.length <= MOST_EVENTS) return;
    this.#events.shift();
    this.#forgotten++;
  }
}
