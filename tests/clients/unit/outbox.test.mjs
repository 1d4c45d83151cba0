import assert from "node:assert/strict";
import { test } from "node:test";
import { Outbox } from "../../../clients/typescript/dist/session/outgoing.js";
import { chance } from "./chance.mjs";

const start = { type: "audio_stream_start", config: { sampleRate: 16000, format: "LINEAR16", language: "en" } };
const end = { type: "audio_stream_end", duration: 0 };
const audio = (number) => new Uint8Array(new Uint32Array([number]).buffer);
const fields = (frame) => JSON.parse(frame.data);
const number = (chunk) => new Uint32Array(Uint8Array.from(atob(chunk.data), (c) => c.charCodeAt(0)).buffer)[0];

function drain(outbox) {
  const frames = [];
  for (let frame = outbox.next(0); frame; frame = outbox.next(0)) frames.push(fields(frame));
  return frames;
}

/** A gateway that counts what it gets, as protocol.md says, and acknowledges some of it. */
class Gateway {
  received = 0;
  stream = 0;
  last = -1;
  heard = [];
  texts = [];

  take(message) {
    this.received++;
    if (message.type === "audio_stream_start") {
      this.stream++;
      this.last = -1;
    } else if (message.type === "audio_chunk") {
      assert.equal(message.sequence, this.last + 1, "a gap, or the same chunk twice");
      this.last++;
      this.heard.push(number(message));
    } else if (message.type === "command") this.texts.push(message.command);
  }
}

test("whatever is cut wherever, all arrives once and in order", () => {
  for (let seed = 0; seed < 300; seed++) {
    const random = chance(seed);
    const outbox = new Outbox(1e9, 1e9);
    outbox.keeps = true;
    const gateway = new Gateway();
    const said = [];
    const typed = [];
    let wire = []; // written, and not there yet
    let open = false;
    for (let step = 0; step < 200; step++) {
      const dice = random();
      if (dice < 0.1) {
        outbox.add(open ? end : start);
        open = !open;
      } else if (dice < 0.5 && open) {
        said.push(step);
        assert.equal(outbox.addAudio(audio(step), 20), 0);
      } else if (dice < 0.55) {
        typed.push(`${step}`);
        outbox.add({ type: "command", command: `${step}` });
      } else if (dice < 0.75) {
        const frame = outbox.next(0);
        if (frame) wire.push(fields(frame));
      } else if (dice < 0.9 && wire.length) gateway.take(wire.shift());
      else if (dice < 0.96) outbox.acknowledge(gateway.stream, gateway.last);
      else {
        wire = []; // the connection is lost, with what was on it
        assert.equal(outbox.resume(gateway.received), 0);
      }
    }
    for (const message of [...wire, ...drain(outbox)]) gateway.take(message);
    assert.deepEqual(gateway.heard, said, `seed ${seed}`);
    assert.deepEqual(gateway.texts, typed, `seed ${seed}`);
    outbox.acknowledge(gateway.stream, gateway.last);
    if (said.length && gateway.last >= 0) assert.equal(outbox.audioMs, 0, `seed ${seed}`);
  }
});

test("of too much audio the oldest that waits is dropped, the beginning of a stream never", () => {
  const outbox = new Outbox(100, 1e6);
  outbox.keeps = true;
  outbox.add(start);
  const dropped = [0, 1, 2, 3, 4, 5, 6, 7].map((one) => outbox.addAudio(audio(one), 20));
  assert.deepEqual(dropped, [0, 0, 0, 0, 0, 20, 20, 20]);
  const written = drain(outbox);
  assert.deepEqual(written.slice(1).map(number), [0, 4, 5, 6, 7]);
  assert.deepEqual(written.slice(1).map((chunk) => chunk.sequence), [0, 1, 2, 3, 4]);
  assert.equal(outbox.audioMs, 100);
});

test("a session that cannot be resumed keeps nothing", () => {
  const outbox = new Outbox(1000, 1000);
  outbox.add(start);
  outbox.addAudio(audio(1), 20);
  drain(outbox);
  assert.equal(outbox.audioMs, 0);
  assert.ok(outbox.isEmpty);
});

test("text that waits is bounded; what was written makes room", () => {
  const outbox = new Outbox(1000, 300);
  outbox.keeps = true;
  const command = { type: "command", command: "x".repeat(100) };
  assert.ok(outbox.add(command) && outbox.add(command));
  assert.equal(outbox.add(command), false);
  drain(outbox);
  assert.ok(outbox.add(command));
  assert.equal(outbox.resume(0), 1, "and that it is gone is known");
});

test("in another session an open stream begins again, with what was not safe", () => {
  for (const again of [true, false]) {
    const outbox = new Outbox(1e6, 1e6);
    outbox.keeps = true;
    outbox.introduce({ type: "client_hello" });
    outbox.add({ type: "command", command: "before" });
    outbox.add(start);
    for (const one of [1, 2, 3]) outbox.addAudio(audio(one), 20);
    drain(outbox);
    outbox.acknowledge(1, 0);
    outbox.addAudio(audio(4), 20);
    outbox.add({ type: "command", command: "after" });
    outbox.restart(again, { type: "client_hello" });
    const written = drain(outbox);
    const types = written.map((message) => message.type);
    if (again) {
      assert.deepEqual(types, ["client_hello", "audio_stream_start", ...Array(3).fill("audio_chunk"), "command"]);
      assert.deepEqual(written.filter((m) => m.type === "audio_chunk").map(number), [2, 3, 4]);
    } else assert.deepEqual(types, ["client_hello", "command"]);
    assert.equal(written.at(-1).command, "after");
  }
});

test("in another session what was pressed is pressed, and what is about the one before is gone", () => {
  const [press, release] = [{ type: "activity_start" }, { type: "activity_end" }];
  const typesOf = (act) => {
    const outbox = new Outbox(1e6, 1e6);
    outbox.keeps = true;
    act(outbox);
    outbox.restart(true, { type: "client_hello" });
    return drain(outbox).map((message) => message.type.replace("audio_chunk", "audio")).join(" ");
  };
  const speak = (outbox, one) => outbox.addAudio(audio(one), 20);
  // Pressed before it is lost, and held; or released meanwhile.
  for (const [then, rest] of [[() => {}, ""], [(outbox) => outbox.add(release), " activity_end"]]) {
    const types = typesOf((outbox) => {
      outbox.add(press);
      outbox.add(start);
      [1, 2].forEach((one) => speak(outbox, one));
      drain(outbox);
      outbox.acknowledge(1, 0); // the press is forgotten with it
      speak(outbox, 3);
      then(outbox);
    });
    assert.equal(types, `client_hello activity_start audio_stream_start audio audio${rest}`);
  }
  // Pressed meanwhile: once.
  assert.equal(typesOf((outbox) => [press, start].forEach((one) => outbox.add(one))), "client_hello activity_start audio_stream_start");
  // Pressed and released before it is lost, and not known to be safe.
  const whole = typesOf((outbox) => {
    outbox.add(start);
    outbox.add(press);
    speak(outbox, 1);
    outbox.add(release);
    drain(outbox);
  });
  assert.equal(whole, "client_hello audio_stream_start activity_start audio activity_end");
  // All that was said in it is safe: an activity with nothing in it is not told of.
  const over = (outbox) => {
    for (const message of [press, start]) outbox.add(message);
    speak(outbox, 1);
    outbox.add(release);
    drain(outbox);
    outbox.acknowledge(1, 0);
  };
  assert.equal(typesOf(over), "client_hello audio_stream_start");
  const again = typesOf((outbox) => {
    over(outbox);
    outbox.add(press);
    speak(outbox, 2);
    drain(outbox);
  });
  assert.equal(again, "client_hello audio_stream_start activity_start audio");
  const types = typesOf((outbox) => {
    for (const type of ["interrupt", "playback_mark", "tool_result", "provoke", "command"]) outbox.add({ type });
  });
  assert.equal(types, "client_hello command");
});

test("a stream that the gateway has ended takes no more audio", () => {
  const outbox = new Outbox(1e6, 1e6);
  outbox.add(start);
  outbox.addAudio(audio(1), 20);
  drain(outbox);
  outbox.addAudio(audio(2), 20);
  outbox.add(end);
  outbox.add(start);
  outbox.addAudio(audio(3), 20);
  outbox.endStream();
  const written = drain(outbox);
  assert.deepEqual(written.map((message) => message.type), ["audio_stream_start", "audio_chunk"]);
  assert.equal(number(written[1]), 3);
});

test("a stream that was refused does not count", () => {
  const outbox = new Outbox(1e6, 1e6);
  outbox.keeps = true;
  outbox.add(start);
  drain(outbox);
  outbox.refuseStream();
  outbox.add(start);
  outbox.addAudio(audio(1), 20);
  drain(outbox);
  outbox.acknowledge(1, 0);
  assert.equal(outbox.audioMs, 0);
});
