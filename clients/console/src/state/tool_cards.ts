import type { CallEvent, ToolCallEvent } from "@antiphon/client";

const MOST = 100;

/** One tool call, from its question to its end. */
export interface ToolCard {
  id: string;
  name: string;
  args: Record<string, unknown>;
  askedAt: number;
  /** performance.now() at which it is too late. */
  dueAt: number;
  state: "open" | "answered" | "failed" | "cancelled" | "late";
  endedAt?: number;
  result?: unknown;
  error?: string;
  /** Answered by the rule for its name. */
  automatic: boolean;
  /** How to answer it; not in a replay. */
  call?: Pick<ToolCallEvent, "respond" | "fail">;
}

export function cardsAfter(
  cards: readonly ToolCard[],
  at: number,
  event: CallEvent,
  qualify: (id: string) => string,
): readonly ToolCard[] {
  switch (event.type) {
    case "toolCall": {
      const { name, args, deadlineMs } = event;
      const card: ToolCard = {
        id: qualify(event.callId),
        name,
        args,
        askedAt: at,
        dueAt: at + deadlineMs,
        state: "open",
        automatic: false,
      };
      const answerable = typeof event.respond === "function";
      const call = { respond: (result: unknown) => event.respond(result), fail: (why: string) => event.fail(why) };
      return [...cards, answerable ? { ...card, call } : card].slice(-MOST);
    }
    case "toolDone":
      return closed(cards, qualify(event.callId), {
        state: event.error === undefined ? "answered" : "failed",
        endedAt: at,
        result: event.result,
        error: event.error,
      });
    case "toolCancelled":
      return closed(cards, qualify(event.callId), {
        state: event.reason === "deadline" ? "late" : "cancelled",
        endedAt: at,
      });
    case "closed":
      return cards.map((card) => (card.state === "open" ? { ...card, state: "cancelled", endedAt: at } : card));
    default:
      return cards;
  }
}

export function markedAutomatic(cards: readonly ToolCard[], id: string): readonly ToolCard[] {
  return cards.map((card) => (card.id === id ? { ...card, automatic: true } : card));
}

function closed(cards: readonly ToolCard[], id: string, end: Partial<ToolCard>): readonly ToolCard[] {
  return cards.map((card) => (card.id === id && card.state === "open" ? { ...card, ...end } : card));
}

export type Parsed = { ok: true; value: unknown } | { ok: false; why: string };

/** Reads what is to be a JSON value, or says in a sentence why it is none. */
export function parseJson(text: string): Parsed {
  if (!text.trim()) return { ok: false, why: "Write a JSON value." };
  try {
    return { ok: true, value: JSON.parse(text) };
  } catch (error) {
    return { ok: false, why: `This is no JSON: ${(error as Error).message}` };
  }
}
