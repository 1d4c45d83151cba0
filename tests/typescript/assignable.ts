// Compiles only if the generated types and the request's interfaces are one and the same: assignable
// both ways, and with the same fields, since a missing optional field is assignable too.

import type * as ours from "antiphon";
import type * as theirs from "./request";

type Same<A, B> = [A] extends [B]
  ? [B] extends [A]
    ? [keyof A] extends [keyof B]
      ? [keyof B] extends [keyof A]
        ? true
        : "the second has fields that the first has not"
      : "the first has fields that the second has not"
    : "the second is not assignable to the first"
  : "the first is not assignable to the second";

declare function check<A, B>(same: Same<A, B>): void;

check<ours.AuthMessage, theirs.AuthMessage>(true);
check<ours.AudioStreamStartMessage, theirs.AudioStreamStartMessage>(true);
check<ours.AudioStreamStartMessage["config"], theirs.AudioStreamStartMessage["config"]>(true);
check<ours.AudioChunkMessage, theirs.AudioChunkMessage>(true);
check<ours.AudioStreamEndMessage, theirs.AudioStreamEndMessage>(true);
check<ours.CommandMessage, theirs.CommandMessage>(true);
check<ours.AuthSuccessMessage, theirs.AuthSuccessMessage>(true);
check<ours.RecognitionResultMessage, theirs.RecognitionResultMessage>(true);
check<ours.AudioResponseMessage, theirs.AudioResponseMessage>(true);
check<ours.ErrorMessage, theirs.ErrorMessage>(true);
check<ours.ClientMessage, theirs.ClientMessage>(true);
check<ours.ServerMessage, theirs.ServerMessage>(true);
check<ours.ClientMessage["type"], theirs.ClientMessage["type"]>(true);
check<ours.ServerMessage["type"], theirs.ServerMessage["type"]>(true);

// The same with values, as a client would write it.
declare function receive(message: ours.ClientMessage): theirs.ClientMessage;
declare function send(message: theirs.ServerMessage): ours.ServerMessage;
receive({ type: "command", timestamp: 1, command: "next", context: { page: 3 } } satisfies theirs.CommandMessage);
send({ type: "error", timestamp: 1, code: "SERVER_INTERNAL" satisfies ours.ErrorCode, message: "" });

// The check can fail.

// @ts-expect-error: other messages
check<ours.AuthMessage, theirs.CommandMessage>(true);
// @ts-expect-error: a missing optional field
check<Omit<ours.CommandMessage, "context">, theirs.CommandMessage>(true);
// @ts-expect-error: a field too many
check<ours.AudioChunkMessage & { binary?: boolean }, theirs.AudioChunkMessage>(true);
// @ts-expect-error: an optional field that is required
check<Required<ours.RecognitionResultMessage>, theirs.RecognitionResultMessage>(true);
// @ts-expect-error: a required field that is optional
check<Partial<ours.AuthSuccessMessage>, theirs.AuthSuccessMessage>(true);
// @ts-expect-error: a number for text
check<Omit<ours.AuthMessage, "token"> & { token: number }, theirs.AuthMessage>(true);
// @ts-expect-error: a wider format
check<Omit<ours.StreamConfig, "format"> & { format: string }, theirs.AudioStreamStartMessage["config"]>(true);
// @ts-expect-error: a union with one member too few
check<Exclude<ours.ClientMessage, { type: "command" }>, theirs.ClientMessage>(true);
// @ts-expect-error: no code of ours
send({ type: "error", timestamp: 1, code: "NO_SUCH_CODE" satisfies ours.ErrorCode, message: "" });
