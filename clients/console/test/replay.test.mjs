import assert from "node:assert/strict";
import { test } from "node:test";
import { load } from "./load.mjs";

const { Session } = await load("state/session.ts");
const { DEFAULTS } = await load("state/settings.ts");
const { exported, parsed } = await load("replay/recording.ts");
const { ReplayPlayer } = await load("replay/player.ts");

const connected = { type: "connected", sessionId: "s1", userId: "me", recovered: false, replayed: 0, lossy: false, gapMs: 0 };
const turn = {
  responseId: "r1",
  utteranceId: "u1",
  origin: "speech",
  startedAt: 1400,
  hops: [{ name: "model", ms: 300 }],
  unattributedMs: 20,
  totalMs: 320,
  clockUncertaintyMs: 1,
};

/** A session with a turn that was cut, a tool call and an error. */
function recorded() {
  const session = new Session();
  const wire = (at, message) => session.feed(at, { type: "wire", at, direction: "sent", bytes: 50, binary: false, message });
  session.feed(1000, { type: "state", state: "connecting" });
  wire(1001, { type: "auth", token: "secret.jwt" });
  session.feed(1002, { type: "state", state: "connected" });
  session.feed(1002, connected);
  session.feed(1100, { type: "transcript", role: "user", utteranceId: "u1", text: "Go", isFinal: false });
  session.feed(1500, { type: "transcript", role: "user", utteranceId: "u1", text: "Go on.", isFinal: true });
  session.feed(1600, { type: "transcript", role: "model", utteranceId: "r1", text: "I go on and on.", isFinal: false });
  session.feed(1720, { type: "turn", metrics: turn });
  session.feed(1720, { type: "playback", playing: true, responseId: "r1", playedMs: 0 });
  session.feed(1730, { type: "audio", responseId: "r1", pcm: new Int16Array(4), rateHz: 24_000, durationMs: 100 });
  session.feed(2000, { type: "interrupted", responseId: "r1", reason: "interrupted", playedMs: 280, droppedMs: 900 });
  session.feed(2001, { type: "transcript", role: "model", utteranceId: "r1", text: "I go on", isFinal: true });
  session.feed(2002, { type: "playback", playing: false, responseId: "r1", playedMs: 280 });
  const call = { callId: "c1", name: "weather", args: { city: "Rome" }, deadlineMs: 9000 };
  session.feed(2100, { type: "toolCall", ...call, signal: new AbortController().signal, respond() {}, fail() {} });
  session.feed(2200, { type: "toolDone", callId: "c1", result: { sky: "blue" } });
  session.levels.push(2200, 0.5, 0.01);
  const error = Object.assign(new Error("The token has expired."), { code: "AUTH_TOKEN_EXPIRED" });
  session.feed(2300, { type: "state", state: "closed" });
  session.feed(2300, { type: "closed", error });
  return session;
}

const shown = (session) => {
  const { rows, turns, timeline, state, notices, cards, log } = session;
  return structuredClone({
    rows: rows.value,
    turns: turns.value,
    timeline: timeline.value,
    state: state.value,
    notices: notices.value,
    cards: cards.value.map(({ call: _call, ...card }) => card),
    log: log.entries,
  });
};

test("a replay shows what the session showed", async () => {
  const session = recorded();
  const text = exported(session, DEFAULTS, { offsetMs: 3, rttMs: 2 });
  assert.ok(!text.includes("secret"));
  const player = new ReplayPlayer(await parsed(new Blob([text])), "session.jsonl");
  assert.deepEqual(shown(player.session.value), shown(session));
  assert.equal(player.session.value.rows.value[1].unheard, " and on.");
  const levels = [];
  player.session.value.levels.between(0, 9999, (...level) => levels.push(level));
  assert.equal(levels.length, 1);
});

test("a replay goes back and forth", async () => {
  const player = new ReplayPlayer(await parsed(new Blob([exported(recorded(), DEFAULTS)])), "session.jsonl");
  const end = shown(player.session.value);
  player.seek(1300);
  assert.deepEqual(player.session.value.rows.value.map(({ text }) => text), ["Go"]);
  assert.equal(player.session.value.turns.value.length, 0);
  player.seek(player.recording.to);
  assert.deepEqual(shown(player.session.value), end);
});

test("what was said in the call before stays, and ids of two calls do not mix", () => {
  const session = recorded();
  session.feed(3000, { type: "state", state: "connected" });
  session.feed(3000, { ...connected, sessionId: "s2" });
  session.feed(3100, { type: "transcript", role: "user", utteranceId: "u1", text: "Again.", isFinal: true });
  assert.deepEqual(session.rows.value.map(({ text }) => text), ["Go on.", "I go on", "Again."]);
  session.feed(3200, { type: "turn", metrics: turn });
  session.feed(3300, { type: "toolCall", callId: "c1", name: "weather", args: {}, deadlineMs: 9000 });
  for (const items of [session.rows.value, session.turns.value, session.cards.value]) {
    assert.equal(new Set(items.map(({ id }) => id)).size, items.length);
  }
  assert.deepEqual(session.cards.value.map(({ state }) => state), ["answered", "open"]);
  const [first, second] = session.turns.value.map(({ utteranceId }) => utteranceId);
  assert.notEqual(first, second);
});

for (const [what, text, sentence] of [
  ["is something else", '{"format": "other"}\n', /no session that was exported/],
  ["is of another version", '{"format": "antiphon-session", "version": 99}\n', /version 99/],
  ["is cut", '{"format": "antiphon-session", "version": 1}\n{"at": 1, "eve', /Line 2 .* no JSON/],
  ["has a strange line", '{"format": "antiphon-session", "version": 1}\n{"x": 1}', /Line 2/],
  ["is empty", '{"format": "antiphon-session", "version": 1}\n', /nothing in this session/],
]) {
  test(`a file that ${what} is refused in words`, () => assert.rejects(parsed(new Blob([text])), sentence));
}
