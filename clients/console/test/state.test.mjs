import assert from "node:assert/strict";
import { test } from "node:test";
import { load } from "./load.mjs";

const { RawLog, filtered, NO_FILTER, typeCounts, toJsonLines } = await load("state/log.ts");
const { EMPTY_TIMELINE, timelineAfter } = await load("state/timeline.ts");
const { cardsAfter, parseJson } = await load("state/tool_cards.ts");
const { turnsAfter, partsOf, percentile, scaleEnd } = await load("state/metrics.ts");
const { noticesAfter, withNotice, tokenNotice } = await load("state/notices.ts");
const { LevelHistory } = await load("state/levels.ts");
const { DEFAULTS, merged, fromQuery, toQuery } = await load("state/settings.ts");

const same = (id) => id;
const wire = (message, more = {}) => ({ type: "wire", at: 0, direction: "received", bytes: 100, binary: false, message, ...more });

// ---- the raw log

test("a token and audio are not kept", () => {
  const log = new RawLog();
  log.add(wire({ type: "auth", token: "secret.jwt" }), same);
  log.add(wire({ type: "session_info", resumeToken: "secret.resume" }), same);
  log.add(wire({ type: "audio_chunk", data: Buffer.from("12345").toString("base64"), sequence: 7 }), same);
  log.add(wire({ type: "audio_response", data: "" }, { binary: true, bytes: 2016 }), same);
  const text = toJsonLines(log.entries, 0);
  assert.ok(!text.includes("secret"));
  assert.match(log.entries[2].text, /\(5 bytes\)/);
  assert.match(log.entries[3].text, /\(2,000 bytes\)/);
  for (const line of text.trim().split("\n")) assert.ok(JSON.parse(line).message.type);
});

test("the log is bounded by number and by size", () => {
  const log = new RawLog();
  for (let n = 0; n < 5010; n++) log.add(wire({ type: "pong", id: n }), same);
  assert.equal(log.entries.length, 5000);
  assert.equal(log.count, 5010);
  assert.equal(JSON.parse(log.entries[0].text).id, 10);
  const large = new RawLog();
  for (let n = 0; n < 10; n++) large.add(wire({ type: "usage", pad: "x".repeat(1024 * 1024) }), same);
  assert.equal(large.entries.length, 7);
});

test("messages are told which turn they are of, by themselves or by what comes next", () => {
  const log = new RawLog();
  log.add(wire({ type: "recognition_result", transcript: "go" }), same);
  log.add(wire({ type: "transcript_update", role: "user", utteranceId: "u1", text: "go" }), same);
  log.add(wire({ type: "response_started", responseId: "r1" }), same);
  log.add(wire({ type: "audio_response", data: "" }), same);
  assert.deepEqual(
    log.entries.map(({ about }) => about),
    ["u1", "u1", "r1", "r1"],
  );
});

test("the log is filtered by direction, type and text", () => {
  const log = new RawLog();
  log.add(wire({ type: "ping", id: 1 }), same);
  log.add(wire({ type: "command", command: "Weather in Rome" }, { direction: "sent" }), same);
  log.add(wire({ type: "usage" }), same);
  const types = (filter) => filtered(log.entries, { ...NO_FILTER, ...filter }).map(({ type }) => type);
  assert.deepEqual(types({}), ["command", "usage"]);
  assert.deepEqual(types({ quiet: false }), ["ping", "command", "usage"]);
  assert.deepEqual(types({ type: "ping" }), ["ping"]);
  assert.deepEqual(types({ direction: "sent" }), ["command"]);
  assert.deepEqual(types({ text: "rome" }), ["command"]);
  assert.deepEqual(typeCounts(log.entries), [["command", 1], ["ping", 1], ["usage", 1]]);
});

// ---- the timeline

const timeline = (...events) =>
  events.reduce((timeline, [at, event]) => timelineAfter(timeline, at, event, same), EMPTY_TIMELINE);

test("a lost connection, its resumption and a rotation are spans of the lane", () => {
  const { link, marks } = timeline(
    [0, { type: "state", state: "connecting" }],
    [10, { type: "state", state: "connected" }],
    [10, { type: "connected", recovered: false, userId: "me", replayed: 0, lossy: false, gapMs: 0 }],
    [20, { type: "state", state: "reconnecting" }],
    [20, { type: "reconnecting", attempt: 1, delayMs: 0, reason: "The connection was lost." }],
    [25, { type: "reconnecting", attempt: 2, delayMs: 300, reason: "Nothing answers." }],
    [30, { type: "state", state: "connected" }],
    [30, { type: "connected", recovered: true, userId: "me", replayed: 2, lossy: true, gapMs: 10 }],
    [40, { type: "rotation", stage: "rotating", reason: "go_away", gapMs: 0, lostAudioMs: 0 }],
    [50, { type: "rotation", stage: "rotated", reason: "go_away", gapMs: 10, lostAudioMs: 1500, upstream: "primary" }],
  );
  assert.deepEqual(link, [
    { state: "connecting", from: 0, to: 10 },
    { state: "connected", from: 10, to: 20 },
    { state: "reconnecting", from: 20, to: 30 },
    { state: "connected", from: 30, to: 40 },
    { state: "rotating", from: 40, to: 50 },
    { state: "connected", from: 50 },
  ]);
  assert.deepEqual(marks.map(({ kind }) => kind), ["good", "bad", "bad", "rotation", "rotation"]);
  assert.match(marks[2].text, /2 messages made up for, something is missing/);
  assert.match(marks[4].text, /1\.5 s of speech lost/);
});

test("speech ends where it ended, not where that was told", () => {
  const { voices } = timeline(
    [100, { type: "speech", speaking: true, streamMs: 0 }],
    [200, { type: "transcript", role: "user", utteranceId: "u1", text: "go", isFinal: false }],
    [900, { type: "speech", speaking: false, streamMs: 500 }],
    [950, { type: "turn", metrics: { responseId: "r1", utteranceId: "u1", startedAt: 600 } }],
    [1000, { type: "playback", playing: true, responseId: "r1", playedMs: 0 }],
    [2000, { type: "playback", playing: false, responseId: "r1", playedMs: 1000 }],
  );
  assert.deepEqual(voices, [
    { side: "user", from: 100, to: 600, id: "u1" },
    { side: "model", from: 1000, to: 2000, id: "r1" },
  ]);
});

// ---- tool calls

const cards = (...events) => events.reduce((cards, [at, event]) => cardsAfter(cards, at, event, same), []);
const toolCall = { type: "toolCall", callId: "c1", name: "weather", args: { city: "Rome" }, deadlineMs: 20_000, respond() {}, fail() {} };

test("a call ends once: answered, failed, cancelled or late", () => {
  const [open] = cards([5, toolCall]);
  assert.equal(open.state, "open");
  assert.equal(open.dueAt, 20_005);
  const done = { type: "toolDone", callId: "c1", result: { ok: true } };
  const late = { type: "toolCancelled", callId: "c1", reason: "deadline" };
  assert.equal(cards([5, toolCall], [9, done], [10, late])[0].state, "answered");
  assert.equal(cards([5, toolCall], [9, late], [10, done])[0].state, "late");
  assert.equal(cards([5, toolCall], [9, { ...late, reason: "cancelled" }])[0].state, "cancelled");
  assert.equal(cards([5, toolCall], [9, { type: "toolDone", callId: "c1", error: "No." }])[0].state, "failed");
  assert.equal(cards([5, toolCall], [9, { type: "closed" }])[0].state, "cancelled");
});

test("what is no JSON is told in a sentence", () => {
  assert.deepEqual(parseJson('{"ok": true}'), { ok: true, value: { ok: true } });
  assert.match(parseJson('{"ok": ').why, /no JSON/);
  assert.equal(parseJson("  ").ok, false);
});

// ---- latency

const metrics = (responseId, totalMs) => ({ responseId, hops: [{ name: "model", ms: totalMs }], unattributedMs: 0, totalMs });

test("the parts of a turn sum to its total", () => {
  const measured = { hops: [{ name: "endpoint", ms: 300 }, { name: "gateway", ms: 0 }, { name: "model", ms: 120 }], unattributedMs: 30, totalMs: 450 };
  const parts = partsOf(measured);
  assert.deepEqual(parts.map(({ name }) => name), ["endpoint", "model", "unattributed"]);
  assert.equal(parts.reduce((sum, { ms }) => sum + ms, 0), measured.totalMs);
});

test("the last fifty turns are kept, with their numbers", () => {
  let turns = [];
  for (let n = 1; n <= 60; n++) turns = turnsAfter(turns, metrics(`r${n}`, n), same);
  assert.equal(turns.length, 50);
  assert.equal(turns[0].number, 11);
  assert.equal(turns.at(-1).number, 60);
});

test("percentiles are by nearest rank", () => {
  assert.equal(percentile([], 0.5), undefined);
  assert.equal(percentile([7], 0.95), 7);
  assert.equal(percentile([4, 1, 3, 2], 0.5), 2);
  assert.equal(percentile(Array.from({ length: 100 }, (_, n) => n + 1), 0.95), 95);
});

test("a scale ends at a round number that nothing exceeds", () => {
  for (const ms of [0.4, 1, 99, 100, 101, 738, 980, 1001, 8001, 12_345]) assert.ok(scaleEnd(ms) >= ms, String(ms));
  assert.equal(scaleEnd(738), 800);
});

test("levels are kept for ten minutes", () => {
  const levels = new LevelHistory();
  for (let n = 0; n < 13_000; n++) levels.push(50 * n, 1, 0);
  const seen = [];
  levels.between(0, Infinity, (at, input, output) => seen.push([at, input, output]));
  assert.equal(seen.length, 12_000);
  assert.deepEqual(seen[0], [50 * 12_999, 1, 0]);
});

// ---- notices

test("a token that is no good asks for another, urgently and once", () => {
  const closed = { type: "closed", error: { code: "AUTH_TOKEN_EXPIRED", message: "The token has expired." } };
  const [notice, ...others] = noticesAfter([tokenNotice()], 0, closed);
  assert.equal(notice.action, "token");
  assert.equal(notice.urgent, true);
  assert.deepEqual(others, []);
  assert.deepEqual(noticesAfter([notice], 0, { type: "connected" }), []);
});

test("the end of a call is told by its reason", () => {
  const told = (code) => noticesAfter([], 0, { type: "closed", error: { code, message: "Why." } })[0];
  assert.equal(told("CONNECTION_LOST").title, "The server is gone");
  assert.equal(told("UPSTREAM_UNAVAILABLE").title, "The model is not available");
  assert.equal(told("SESSION_IDLE").urgent, undefined);
  assert.deepEqual(noticesAfter([], 0, { type: "closed" }), []);
});

test("a model that is away is told of until it is back, whatever the connection does", () => {
  const after = (events) => events.reduce((notices, [at, event]) => noticesAfter(notices, at, event), []);
  const lost = [100, { type: "rotation", stage: "rotating", reason: "lost" }];
  const refused = [200, { type: "reconnecting", code: "UPSTREAM_UNAVAILABLE", reason: "Cannot be reached." }];
  const recovered = [300, { type: "connected", recovered: true }];
  assert.deepEqual(after([lost]).map(({ about, from }) => [about, from]), [["model", 3100]]);
  assert.deepEqual(after([refused, recovered, lost]).map(({ about, from }) => [about, from]), [["model", 200]]);
  assert.match(after([refused])[0].words, /^Cannot be reached\./);
  for (const event of [
    { type: "rotation", stage: "rotated" },
    { type: "response", status: "started" },
    { type: "connected", recovered: false },
    { type: "closed" },
  ]) {
    assert.deepEqual(after([refused, [400, event]]), [], JSON.stringify(event));
  }
  assert.deepEqual(after([[100, { type: "rotation", stage: "rotating", reason: "max_duration" }]]), []);
  const network = [500, { type: "reconnecting", code: "CONNECTION_LOST", reason: "Lost." }];
  assert.deepEqual(after([lost, network]).map(({ about }) => about), ["model", "connection"]);
});

test("the same notice is not told twice, and an urgent one stands first", () => {
  const notices = withNotice([], { about: "gateway", title: "A", words: "b" });
  assert.equal(withNotice(notices, { about: "gateway", title: "A", words: "b" }), notices);
  const both = withNotice(notices, { about: "microphone", title: "C", words: "d", urgent: true });
  assert.deepEqual(both.map(({ about }) => about), ["microphone", "gateway"]);
});

// ---- settings

test("a link says what differs from the default, and says it back", () => {
  assert.equal(toQuery(DEFAULTS), "");
  const chosen = { ...DEFAULTS, talk: "hold", language: "de-AT", echoCancellation: false, base: true, encoder: "flac", playbackBufferMs: 500 };
  const query = toQuery(chosen);
  assert.ok(!/token|device/i.test(query));
  assert.deepEqual(merged(DEFAULTS, fromQuery(query)), chosen);
});

test("settings that are none are not taken", () => {
  const wrong = { talk: "shout", language: "<script>", volume: 7, split: "wide", encoder: 3, theme: null, answers: { a: 1 }, unknown: true };
  assert.deepEqual(merged(DEFAULTS, wrong), DEFAULTS);
});
