import { useSignal } from "@preact/signals";
import { canChooseOutput, microphones, outputs } from "../call/devices.js";
import { copyText, saveFile, stampedName } from "../call/files.js";
import { live } from "../call/live.js";
import { exported } from "../replay/recording.js";
import { change, DEFAULTS, isLanguage, settings, toQuery, type Settings } from "../state/settings.js";
import { replay, session } from "../state/view.js";
import { Code } from "./code.js";
import { openFile } from "./drop.js";
import { Field, Group, Select, Toggle } from "./fields.js";
import { Preflight } from "./preflight.js";

/** Everything that can be chosen; it is kept in this browser. */
export function Setup() {
  return (
    <>
      <div class="groups">
        <Talking />
        <Sound />
        <Wire />
        <Page />
        <SessionFile />
        <Answers />
      </div>
      <Preflight />
      <Code />
    </>
  );
}

function Talking() {
  return (
    <Group title="Talking">
      <Select
        label="How to talk"
        value={settings.value.talk}
        options={[
          ["open", "Open microphone"],
          ["hold", "Push to talk: hold"],
          ["toggle", "Push to talk: press twice"],
        ]}
        onChoose={(talk) => change({ talk: talk as Settings["talk"] })}
      />
      <Language />
    </Group>
  );
}

const LANGUAGES = (
  "ar-EG cmn-CN cs-CZ da-DK de-DE el-GR en-AU en-GB en-IN en-US es-ES es-US fi-FI fr-CA fr-FR he-IL hi-IN hu-HU id-ID " +
  "it-IT ja-JP ko-KR nb-NO nl-NL pl-PL pt-BR pt-PT ro-RO ru-RU sk-SK sv-SE th-TH tr-TR uk-UA vi-VN"
).split(" ");
const NAMES = new Intl.DisplayNames(["en"], { type: "language" });
const OTHER = "";

function Language() {
  const { language } = settings.value;
  const free = useSignal(!LANGUAGES.includes(language));
  const text = useSignal(language);
  const wrong = free.value && !isLanguage(text.value);
  return (
    <>
      <Select
        label="Language"
        value={free.value ? OTHER : language}
        options={[...LANGUAGES.map((tag): [string, string] => [tag, languageName(tag)]), [OTHER, "Another…"]]}
        onChoose={(tag) => {
          free.value = tag === OTHER;
          if (tag !== OTHER) change({ language: tag });
          else text.value = language;
        }}
      />
      {free.value && (
        <Field
          label="Tag of the language"
          hint={wrong ? "This is no tag of BCP 47; one looks like de-AT." : `${languageName(language)}, by BCP 47`}
        >
          {(ties) => (
            <input
              {...ties}
              value={text}
              spellcheck={false}
              autocapitalize="none"
              aria-invalid={wrong}
              onInput={(event) => {
                text.value = event.currentTarget.value.trim();
                if (isLanguage(text.value)) change({ language: text.value });
              }}
            />
          )}
        </Field>
      )}
    </>
  );
}

function languageName(tag: string): string {
  try {
    return NAMES.of(tag) ?? tag;
  } catch {
    return tag;
  }
}

function deviceOptions(devices: readonly MediaDeviceInfo[], chosen: string): [string, string][] {
  const named = devices.filter(({ deviceId }) => deviceId && deviceId !== "default");
  const options = named.map(({ deviceId, label }, index): [string, string] => [deviceId, label || `Device ${index + 1}`]);
  const gone = chosen && !named.some(({ deviceId }) => deviceId === chosen);
  return [["", "The system’s choice"], ...options, ...(gone ? [[chosen, "Not connected"] as [string, string]] : [])];
}

function Sound() {
  const { deviceId, outputDeviceId, volume } = settings.value;
  const reopen = () => void live.reopenMicrophone();
  return (
    <Group title="Sound">
      <Select
        label="Microphone"
        value={deviceId}
        options={deviceOptions(microphones.value, deviceId)}
        hint={microphones.value.some(({ label }) => label) ? undefined : "They have names once you have talked."}
        onChoose={(chosen) => {
          change({ deviceId: chosen });
          void live.setMicrophoneDevice(chosen);
        }}
      />
      <Select
        label="Loudspeaker"
        value={outputDeviceId}
        options={deviceOptions(outputs.value, outputDeviceId)}
        disabled={!canChooseOutput}
        hint={canChooseOutput ? undefined : "This browser uses the one that the system has chosen."}
        onChoose={(chosen) => {
          change({ outputDeviceId: chosen });
          void live.setOutputDevice(chosen);
        }}
      />
      <Field label="Volume">
        {(ties) => (
          <input
            {...ties}
            type="range"
            min={0}
            max={1}
            step={0.05}
            value={volume}
            aria-valuetext={`${Math.round(100 * volume)} %`}
            onInput={(event) => change({ volume: Number(event.currentTarget.value) })}
          />
        )}
      </Field>
      <Toggle name="echoCancellation" label="Echo cancellation" onChange={reopen} />
      <Toggle name="noiseSuppression" label="Noise suppression" onChange={reopen} />
      <Toggle name="autoGainControl" label="Automatic gain" onChange={reopen} />
    </Group>
  );
}

function Wire() {
  const { encoder, base, playbackBufferMs } = settings.value;
  return (
    <Group title="On the wire">
      <Select
        label="Speech is sent as"
        value={encoder}
        options={[
          ["linear16", "LINEAR16, 256 kbit/s"],
          ["flac", "FLAC, without loss"],
          ["opus", "Opus, for thin lines"],
        ]}
        hint={base && encoder === "opus" ? "A base session takes no Opus." : undefined}
        onChoose={(name) => change({ encoder: name as Settings["encoder"] })}
      />
      <Field
        label="Answers ahead, ms"
        hint="How far ahead of real time they may come, 100 to 30,000. More of it bridges a longer gap in the connection."
      >
        {(ties) => (
          <input
            {...ties}
            type="number"
            min={100}
            max={30_000}
            step={100}
            value={playbackBufferMs}
            onChange={(event) => {
              change({ playbackBufferMs: Number(event.currentTarget.value) });
              event.currentTarget.value = String(settings.value.playbackBufferMs);
            }}
          />
        )}
      </Field>
      <Toggle
        name="allCommands"
        label="Answer every command here"
        hint="As a tool call; else only those that the gateway’s commands file gives to the client."
      />
      <Toggle name="base" label="Base messages only" hint="No resume, rotation, tools or waterfall: the nine messages." />
    </Group>
  );
}

function Page() {
  return (
    <Group title="This page">
      <Select
        label="Colours"
        value={settings.value.theme}
        options={[
          ["system", "As the system"],
          ["light", "Light"],
          ["dark", "Dark"],
        ]}
        onChoose={(theme) => change({ theme: theme as Settings["theme"] })}
      />
      <Toggle name="shortcuts" label="Single-key shortcuts" hint="Press ? to see them." />
      <div class="actions">
        <button type="button" onClick={() => void copyText(linkOfSettings())}>
          Copy link
        </button>
        <button type="button" onClick={() => change(DEFAULTS)}>
          Reset all
        </button>
      </div>
      <small>The link opens this page with the same settings; the token is not in it.</small>
    </Group>
  );
}

function linkOfSettings(): string {
  return location.origin + location.pathname + toQuery(settings.value);
}

function SessionFile() {
  const { sessionId } = session.value.identity.value;
  return (
    <Group title="This session">
      {sessionId && (
        <p class="session-id">
          <code>{sessionId}</code>
          <button type="button" onClick={() => void copyText(sessionId)}>
            Copy id
          </button>
        </p>
      )}
      {sessionId && <small>By this id the gateway’s log and its errors call the session.</small>}
      <div class="actions">
        <button
          type="button"
          disabled={Boolean(replay.value)}
          onClick={() =>
            saveFile(stampedName("session", "jsonl"), exported(live.session, settings.value, live.clock.value))
          }
        >
          Export session
        </button>
        <button type="button" onClick={openFile}>
          Open a file
        </button>
        <button type="button" disabled={Boolean(replay.value)} onClick={() => session.value.clear(performance.now())}>
          Clear
        </button>
      </div>
      <small>
        The export has the conversation, its latencies, the messages and the connection, and neither token nor audio. Open it
        here to replay it. An audio file is said instead.
      </small>
    </Group>
  );
}

/** What tools are answered with by themselves. */
function Answers() {
  const { answers } = settings.value;
  const names = Object.keys(answers);
  if (!names.length) return null;
  return (
    <Group title="Automatic answers">
      <ul class="answers">
        {names.map((name) => (
          <li key={name}>
            <code>
              {name} → {answers[name]}
            </code>
            <button
              type="button"
              aria-label={`Ask again for ${name}`}
              onClick={() => {
                const { [name]: _gone, ...others } = settings.value.answers;
                change({ answers: others });
              }}
            >
              Ask again
            </button>
          </li>
        ))}
      </ul>
    </Group>
  );
}
