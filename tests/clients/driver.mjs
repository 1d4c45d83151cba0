// A call that is driven from outside: commands come as lines of JSON, and what happens goes out as such.
import { createInterface } from "node:readline";

const [, , entry, optionsText] = process.argv;
const { Call, CallError, Conversation } = await import(entry);
const { tokens, sockets, ...options } = JSON.parse(optionsText);

const tell = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const plain = (key, value) => {
  if (value instanceof Int16Array) return Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("base64");
  if (value instanceof Error) return { code: value.code, kind: value.kind, message: value.message, details: value.details };
  return value;
};

if (tokens === "never") options.token = () => new Promise(() => {});
else if (tokens) {
  options.token = (reason) => {
    tell({ asked: reason });
    const token = tokens.shift();
    if (!token) throw new Error("there are no more");
    return token;
  };
}
if (sockets === "node") {
  const { NodeSocket } = await import(new URL("socket/node.js", entry));
  options.socket = (url, protocols) => new NodeSocket(url, protocols);
}

const call = new Call(options);
const conversation = new Conversation();
const TYPES = `state connected reconnecting closed agentState speech transcript command response interrupted audio playback toolCall
  toolCancelled toolDone microphone audioDropped rotation goAway usage turn error`.split(/\s+/);
const tools = new Map();
for (const type of TYPES) {
  call.on(type, (event) => {
    conversation.apply(event, 0);
    if (type === "toolCall") tools.set(event.callId, event);
    tell(JSON.parse(JSON.stringify({ event }, plain)));
  });
}

const commands = {
  sendAudio: (data, rateHz) => {
    const bytes = Buffer.from(data, "base64");
    call.sendAudio(new Int16Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length)), rateHz);
  },
  registerTool: (name, result) => void call.registerTool(name, async () => result),
  failingTool: (name, why) => void call.registerTool(name, async () => { throw new Error(why); }),
  circularTool: (name) => {
    const result = {};
    result.result = result;
    call.registerTool(name, () => result);
  },
  respond: (callId, result) => tools.get(callId).respond(result),
  fail: (callId, sentence) => tools.get(callId).fail(sentence),
  turns: () => conversation.turns,
  get: (name) => call[name],
};

for await (const line of createInterface({ input: process.stdin })) {
  const { id, name, args } = JSON.parse(line);
  Promise.resolve()
    .then(() => (commands[name] ? commands[name](...args) : call[name](...args)))
    .then(
      (result) => tell({ id, result: result === undefined ? null : result }),
      (error) => {
        if (!(error instanceof CallError)) console.error(error);
        tell(JSON.parse(JSON.stringify({ id, error }, plain)));
      },
    );
}
process.exit(0);
