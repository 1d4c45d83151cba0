import type { Settings } from "./settings.js";

/** A program that makes the same call with "@antiphon/client"; the token is the reader's own matter. */
export function toTypeScript(settings: Settings, url: string): string {
  const imports = ['import { connect } from "@antiphon/client";'];
  const { encoder, talk, base, allCommands, echoCancellation, noiseSuppression, autoGainControl, playbackBufferMs } = settings;
  if (encoder !== "linear16") imports.push(`import { ${encoder} } from "@antiphon/client/${encoder}";`);
  const off = Object.entries({ echoCancellation, noiseSuppression, autoGainControl }).filter(([, on]) => !on);
  const microphone = off.length ? `{ ${off.map(([name]) => `${name}: false`).join(", ")} }` : "true";
  const options = [
    `url: ${JSON.stringify(url)},`,
    'token: async () => (await fetch("/token")).text(), // your server makes it',
    `microphone: ${microphone},`,
    `language: ${JSON.stringify(settings.language)},`,
    base && "base: true,",
    talk !== "open" && "pushToTalk: true,",
    allCommands && "tools: {}, // every command is a toolCall event",
    encoder !== "linear16" && `encoder: ${encoder}(),`,
    playbackBufferMs !== 2000 && `playbackBufferMs: ${playbackBufferMs},`,
  ].filter(Boolean);
  const push =
    talk === "open"
      ? []
      : ["", "  talk.onpointerdown = () => call.startTalking();", "  talk.onpointerup = () => call.stopTalking();"];
  const elements = talk === "open" ? ["start"] : ["start", "talk"];
  return [
    ...imports,
    "",
    ...elements.map((name) => `const ${name} = document.querySelector<HTMLButtonElement>("#${name}")!;`),
    "",
    "start.onclick = async () => {",
    "  const call = await connect({",
    ...options.map((option) => `    ${option}`),
    "  });",
    ...push,
    "",
    "  for await (const event of call) {",
    '    if (event.type === "transcript" && event.isFinal) console.log(event.role, event.text);',
    '    if (event.type === "toolCall") event.respond({ ok: true });',
    "  }",
    "};",
    "",
  ].join("\n");
}

const FORMATS: Record<Settings["encoder"], string> = {
  linear16: "LINEAR16",
  flac: "FLAC",
  opus: "audio/ogg;codecs=opus",
};

/** A program that says a sound file with the same settings, and prints what comes of it. */
export function toPython(settings: Settings, url: string): string {
  const { allCommands, base, encoder, language, playbackBufferMs, talk } = settings;
  const format = JSON.stringify(FORMATS[encoder]);
  const pushed = talk !== "open" && !base;
  const options = [base && "base=True", !base && playbackBufferMs !== 2000 && `playback_buffer_ms=${playbackBufferMs}`, !base && allCommands && 'features=["tools"]'];
  const given = ["URL", "TOKEN", ...options.filter(Boolean)].join(", ");
  return [
    "import asyncio",
    "import os",
    "import sys",
    "from pathlib import Path",
    "",
    "from antiphon.audio.recording import Recording",
    "from antiphon.client import connect",
    ...(base ? ["from antiphon.messages import RecognitionResult"] : ["from antiphon.extension import TranscriptUpdate"]),
    "",
    `URL = ${JSON.stringify(url)}`,
    'TOKEN = os.environ["ANTIPHON_TOKEN"]',
    "",
    "",
    "async def main(path: Path) -> None:",
    "    recording = Recording.read(path)",
    `    async with connect(${given}) as client:`,
    `        await client.start(${format}, recording.rate_hz, ${JSON.stringify(language)})`,
    ...(pushed ? ["        await client.activity_start()"] : []),
    `        for _, data in recording.chunks(${format}):`,
    "            await client.send_audio(data)",
    ...(pushed ? ["        await client.activity_end()"] : []),
    "        await client.end()",
    "        async for message in client:",
    ...(base
      ? ["            if isinstance(message, RecognitionResult) and message.is_final:", "                print(message.transcript)"]
      : ["            if isinstance(message, TranscriptUpdate) and message.is_final:", "                print(message.role, message.text)"]),
    "",
    "",
    "asyncio.run(main(Path(sys.argv[1])))",
    "",
  ].join("\n");
}
