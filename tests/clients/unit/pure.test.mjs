import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { Conversation } from "../../../clients/typescript/dist/conversation.js";
import { Emitter } from "../../../clients/typescript/dist/emitter.js";
import { ClockEstimate } from "../../../clients/typescript/dist/session/clock.js";
import { packChunk, unpackResponse, toBase64, fromBase64 } from "../../../clients/typescript/dist/session/frames.js";
import { delayMs, mayResume } from "../../../clients/typescript/dist/session/reconnect.js";
import { renewalDelayMs } from "../../../clients/typescript/dist/session/tokens.js";
import { TurnTimer } from "../../../clients/typescript/dist/session/turns.js";
import { FrameReader, mask, Opcode } from "../../../clients/typescript/dist/socket/rfc6455.js";
import { chance } from "./chance.mjs";

// ---- time

test("the quickest round trip tells the offset", () => {
  const random = chance(1);
  const clock = new ClockEstimate();
  for (let at = 0; at < 60_000; at += 1000) {
    const there = 5 + 200 * random();
    const back = 5 + 200 * random();
    clock.add(at, at + there + back, at + there + 12_345);
  }
  assert.ok(Math.abs(clock.offsetMs - 12_345) <= clock.rttMs / 2);
  clock.add(300_000, 300_100, 300_050);
  assert.equal(clock.offsetMs, 0, "what was said long ago does not count");
});

test("the hops of a turn sum to it, whatever is known and however wrong a clock is", () => {
  const names = ["uplink", "endpoint", "model", "synthesis", "gateway", "network"];
  for (let seed = 0; seed < 500; seed++) {
    const random = chance(seed);
    const timer = new TurnTimer();
    timer.ended(random() < 0.5 ? "speech" : "typed", 1000);
    timer.responded("r");
    for (const name of names) if (random() < 0.7) timer.reached("r", name, 900 + 1000 * random());
    const turn = timer.heard("r", 1000 + 1000 * random(), "playback", 1);
    const sum = turn.hops.reduce((total, { ms }) => total + ms, 0);
    assert.ok(Math.abs(sum + turn.unattributedMs - turn.totalMs) < 1e-9);
    assert.ok(turn.hops.every(({ ms }) => ms >= 0) && turn.unattributedMs > -1e-9);
    assert.equal(timer.heard("r", 3000, "playback", 1), undefined, "a turn is told of once");
  }
});

test("a hop is told only where both of its ends are known", () => {
  const timer = new TurnTimer();
  timer.ended("speech", 0);
  timer.transcribed(300, "u1");
  timer.responded("r");
  for (const [name, at] of [["uplink", 20], ["model", 500], ["gateway", 620], ["network", 630]]) timer.reached("r", name, at);
  const turn = timer.heard("r", 700, "playback", 1);
  assert.deepEqual(turn.hops, [
    { name: "uplink", ms: 20 },
    { name: "endpoint", ms: 280 },
    { name: "model", ms: 200 },
    { name: "network", ms: 10 },
    { name: "playback", ms: 70 },
  ]);
  assert.equal(turn.unattributedMs, 120);
  assert.equal(turn.utteranceId, "u1");
});

test("a token is renewed half a minute before its end, or at half of its time", () => {
  assert.equal(renewalDelayMs(3_600_000, 0), 3_570_000);
  assert.equal(renewalDelayMs(10_000, 0), 5_000);
  assert.equal(renewalDelayMs(0, 10_000), 1_000);
  assert.equal(renewalDelayMs(1e13, 0), 2 ** 31 - 1);
});

test("what follows from a close", () => {
  for (const code of [1006, 1013, 4440]) assert.ok(mayResume(code, undefined), code);
  for (const code of [1000, 4400, 4401]) assert.ok(!mayResume(code, undefined), code);
  const said = (code, retryable) => ({ code, message: "", details: { retryable } });
  assert.ok(mayResume(4429, said("QUOTA_CONNECTIONS", true)));
  assert.ok(mayResume(4401, said("AUTH_TOKEN_EXPIRED")));
  assert.ok(mayResume(4408, said("AUTH_TIMEOUT")));
  assert.ok(!mayResume(4401, said("AUTH_TOKEN_INVALID")));
  assert.ok(!mayResume(1011, said("UPSTREAM_UNAUTHORIZED", false)));
  assert.equal(delayMs({ delaysMs: [0, 300] }, 7, 0.5), 150);
});

// ---- frames

test("a chunk's frame is the protocol's, and no other frame is taken for an answer", () => {
  const frame = packChunk(7, 1234, Uint8Array.of(1, 2, 3));
  assert.equal(Buffer.from(frame).toString("hex"), "010100000000000700000000000004d2010203");
  const answer = frame.slice();
  answer[1] = 2;
  assert.deepEqual(unpackResponse(answer.buffer), { sequence: 7, timestamp: 1234, data: Uint8Array.of(1, 2, 3) });
  for (const wrong of [frame, answer.slice(0, 15), Uint8Array.of(2, ...answer.slice(1))]) {
    assert.equal(unpackResponse(wrong.slice().buffer), undefined);
  }
  assert.equal(fromBase64("*"), undefined);
  const bytes = Uint8Array.from({ length: 20_000 }, (_, index) => index % 256);
  assert.deepEqual(fromBase64(toBase64(bytes)), bytes);
});

const server = (opcode, payload, final = true) => {
  const frame = mask(opcode, payload, new Uint8Array(4));
  const head = payload.length < 126 ? 2 : payload.length < 65_536 ? 4 : 10;
  frame[0] = (final ? 0x80 : 0) | opcode;
  frame[1] &= 0x7f;
  return Uint8Array.of(...frame.slice(0, head), ...frame.slice(head + 4));
};

test("frames are cut out of whatever comes", () => {
  const random = chance(3);
  const sizes = [0, 1, 125, 126, 127, 65_535, 65_536, 70_000];
  const payloads = sizes.map((size) => Uint8Array.from({ length: size }, () => 256 * random()));
  const parts = payloads.flatMap((payload) => [server(Opcode.binary, payload), server(Opcode.ping, Uint8Array.of(1))]);
  const half = payloads[5];
  parts.push(server(Opcode.text, half.slice(0, 10), false), server(Opcode.ping, half.slice(0, 3)), server(0, half.slice(10)));
  const stream = Buffer.concat(parts);
  const reader = new FrameReader();
  const messages = [];
  for (let at = 0; at < stream.length; ) {
    const size = 1 + Math.floor(random() * 5000);
    messages.push(...reader.push(stream.subarray(at, at + size)));
    at += size;
  }
  const data = messages.filter(({ opcode }) => opcode !== Opcode.ping);
  assert.deepEqual(data.map(({ payload }) => Buffer.from(payload).toString("base64")), [...payloads, half].map((p) => Buffer.from(p).toString("base64")));
  assert.equal(data.at(-1).opcode, Opcode.text);
  assert.equal(messages.length, data.length + payloads.length + 1);
});

test("what no server may send is refused", () => {
  const long = new Uint8Array(126);
  const masked = mask(Opcode.text, Uint8Array.of(1), new Uint8Array(4));
  const huge = Uint8Array.of(0x82, 127, 0, 0, 0, 0, 0xff, 0, 0, 0);
  const wrong = [masked, Uint8Array.of(0xc1, 0), server(Opcode.ping, long), server(0, long), huge, server(Opcode.ping, long.slice(1), false)];
  for (const frame of wrong) assert.throws(() => new FrameReader().push(frame), RangeError);
});

// ---- events

test("an iterator has what came before it, and ends with the call", async () => {
  const emitter = new Emitter();
  emitter.emit({ type: "state", state: "connecting" });
  const all = emitter.iterate();
  const states = emitter.iterate(["state"]);
  emitter.emit({ type: "wire" });
  emitter.emit({ type: "speech", speaking: true });
  emitter.emit({ type: "state", state: "closed" });
  emitter.end();
  const types = [];
  for await (const { type } of all) types.push(type);
  assert.deepEqual(types, ["state", "speech", "state"]);
  assert.equal((await states.next()).value.state, "closed");
  assert.equal((await states.next()).done, true);
});

test("an iterator that is left gets nothing more; one that is too slow is told", async () => {
  const emitter = new Emitter();
  const left = emitter.iterate();
  const slow = emitter.iterate();
  await left.return();
  for (let count = 0; count <= 1000; count++) emitter.emit({ type: "state", state: "connected" });
  assert.equal((await left.next()).done, true);
  await assert.rejects(slow.next(), { code: "EVENTS_MISSED" });
  assert.equal((await slow.next()).done, true);
});

test("what a listener throws stops neither the others nor the call, and is seen", () => {
  const script = `
    import { Emitter } from "${new URL("../../../clients/typescript/dist/emitter.js", import.meta.url)}";
    process.on("uncaughtException", ({ message }) => console.log("seen", message));
    const emitter = new Emitter();
    emitter.on("state", () => { throw new Error("mine"); });
    const off = emitter.on("state", () => console.log("told"));
    emitter.emit({ type: "state", state: "connected" });
    off();
    emitter.emit({ type: "state", state: "closed" });`;
  const { stdout } = spawnSync(process.execPath, ["--input-type=module", "-e", script], { encoding: "utf8" });
  assert.equal(stdout, "told\nseen mine\nseen mine\n");
});

// ---- what was said

test("a conversation's rows", () => {
  const conversation = new Conversation();
  const said = (role, utteranceId, text, isFinal = false) =>
    conversation.apply({ type: "transcript", role, utteranceId, text, isFinal }, 5);
  conversation.apply({ type: "connected", recovered: false });
  said("user", "u1", "next");
  said("user", "u1", "Next one.", true);
  conversation.apply({ type: "command", name: "next", utteranceId: "u1" });
  said("model", "r1", "Here is the next one.");
  said("model", "r1", "Here is", true);
  conversation.apply({ type: "interrupted", responseId: "r1", playedMs: 300, droppedMs: 200 });
  const [user, model] = conversation.turns;
  assert.deepEqual([user.text, user.command, user.isFinal], ["Next one.", "next", true]);
  assert.deepEqual([model.text, model.unheard, model.interrupted, model.playedMs], ["Here is", " the next one.", true, 300]);
  conversation.apply({ type: "connected", recovered: true });
  said("user", "u2", "noise");
  said("user", "u2", "", true);
  assert.equal(conversation.turns.length, 2, "what was taken back is gone");
  conversation.apply({ type: "connected", recovered: false });
  said("user", "u1", "Another session.", true);
  assert.equal(conversation.turns.length, 3);
  for (let count = 0; count < 600; count++) said("user", `x${count}`, "more", true);
  assert.equal(conversation.turns.length, 500);
});
