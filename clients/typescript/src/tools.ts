import type { CallEvent, ToolCallEvent } from "./events.js";
import type { ToolCallMessage, ToolCancelledMessage } from "./messages.js";
import type { Tool } from "./options.js";
import type { Outgoing } from "./session/outgoing.js";

/** The model's calls that are being carried out: by a function of the application, or by whom it pleases. */
export class Tools {
  #tools = new Map<string, Tool>();
  #running = new Map<string, AbortController>();

  constructor(
    readonly send: (message: Outgoing) => void,
    readonly emit: (event: CallEvent) => void,
  ) {}

  register(name: string, tool: Tool): () => void {
    this.#tools.set(name, tool);
    return () => {
      if (this.#tools.get(name) === tool) this.#tools.delete(name);
    };
  }

  called({ callId, name, args, deadlineMs }: ToolCallMessage): void {
    const controller = new AbortController();
    this.#running.set(callId, controller);
    const { signal } = controller;
    const respond = (result: unknown): void => this.#answer(callId, { result: result === undefined ? null : result });
    const fail = (sentence: string): void => this.#answer(callId, { error: sentence });
    const event: ToolCallEvent = { type: "toolCall", callId, name, args, deadlineMs, signal, respond, fail };
    this.emit(event);
    const tool = this.#tools.get(name);
    if (tool) run(tool, event).catch(({ code = "TOOL_RESULT", message }) => this.emit({ type: "error", code, message }));
  }

  cancelled({ callId, reason }: ToolCancelledMessage): void {
    this.#running.get(callId)?.abort(reason);
    if (this.#running.delete(callId)) this.emit({ type: "toolCancelled", callId, reason });
  }

  /** Nobody wants the results any more: the session is over. */
  end(): void {
    for (const callId of [...this.#running.keys()]) this.cancelled({ callId, reason: "session" } as ToolCancelledMessage);
  }

  /** Answers, once; what comes later is of no use to the model. */
  #answer(callId: string, answer: { result: unknown } | { error: string }): void {
    if (!this.#running.has(callId)) return;
    this.send({ type: "tool_result", callId, ...answer }); // which throws where it is no JSON
    this.#running.delete(callId);
    this.emit({ type: "toolDone", callId, ...answer });
  }
}

async function run(tool: Tool, { args, callId, signal, respond, fail }: ToolCallEvent): Promise<void> {
  try {
    respond(await tool(args, { callId, signal }));
  } catch (error) {
    fail(error instanceof Error ? error.message : String(error));
  }
}
