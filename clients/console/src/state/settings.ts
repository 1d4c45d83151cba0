import { signal } from "@preact/signals";

export type TalkMode = "open" | "hold" | "toggle";
export type EncoderName = "linear16" | "flac" | "opus";
export type Theme = "system" | "light" | "dark";

export interface Settings {
  talk: TalkMode;
  /** BCP 47 */
  language: string;
  deviceId: string;
  outputDeviceId: string;
  /** 0 to 1 */
  volume: number;
  echoCancellation: boolean;
  noiseSuppression: boolean;
  autoGainControl: boolean;
  base: boolean;
  /** Every command is a tool call that is answered here, not only those that are configured so. */
  allCommands: boolean;
  encoder: EncoderName;
  playbackBufferMs: number;
  theme: Theme;
  /** Single keys do something. */
  shortcuts: boolean;
  /** What a tool of this name is answered with by itself: JSON. */
  answers: Record<string, string>;
  /** How much of the screen is the conversation's, 0 to 1. */
  split: number;
  /** How much time the waveform shows. */
  windowSeconds: number;
}

export const DEFAULTS: Settings = {
  talk: "open",
  language: browserLanguage(),
  deviceId: "",
  outputDeviceId: "",
  volume: 1,
  echoCancellation: true,
  noiseSuppression: true,
  autoGainControl: true,
  base: false,
  allCommands: false,
  encoder: "linear16",
  playbackBufferMs: 2000,
  theme: "system",
  shortcuts: true,
  answers: {},
  split: 0.45,
  windowSeconds: 20,
};

const CHOICES: Partial<Record<keyof Settings, readonly unknown[]>> = {
  talk: ["open", "hold", "toggle"],
  encoder: ["linear16", "flac", "opus"],
  theme: ["system", "light", "dark"],
  windowSeconds: [10, 20, 60],
};

const RANGES: Partial<Record<keyof Settings, [least: number, most: number]>> = {
  volume: [0, 1],
  split: [0.25, 0.7],
  playbackBufferMs: [100, 30_000],
};

/** What each setting is called in a link. Devices and looks are this browser's own, and answers too long. */
const LINKED = {
  talk: "talk",
  language: "language",
  echoCancellation: "echo",
  noiseSuppression: "noise",
  autoGainControl: "gain",
  base: "base",
  allCommands: "commands",
  encoder: "encoder",
  playbackBufferMs: "buffer",
} as const satisfies Partial<Record<keyof Settings, string>>;

/** Those that a call begins with: a change counts from the next one on. */
export const FOR_NEXT_CALL: readonly (keyof Settings)[] = ["talk", "language", "base", "allCommands", "encoder", "playbackBufferMs"];

/** `settings` with those of `given` that are valid. */
export function merged(settings: Settings, given: Partial<Record<keyof Settings, unknown>>): Settings {
  const valid = Object.entries(given).filter(([name, value]) => isValid(name as keyof Settings, value));
  return { ...settings, ...Object.fromEntries(valid) };
}

function isValid(name: keyof Settings, value: unknown): boolean {
  if (!(name in DEFAULTS) || typeof value !== typeof DEFAULTS[name] || value === null) return false;
  if (name === "language") return isLanguage(value as string);
  if (name === "answers") return Object.values(value as object).every((answer) => typeof answer === "string");
  const range = RANGES[name];
  if (range) return (value as number) >= range[0] && (value as number) <= range[1];
  return CHOICES[name]?.includes(value) ?? true;
}

/** Whether a tag can be one of BCP 47. */
export function isLanguage(tag: string): boolean {
  return /^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$/.test(tag);
}

function browserLanguage(): string {
  return /^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*/.exec(navigator.language)?.[0] ?? "en-US"; // some say "en-US@posix"
}

/** The settings that a link's query names. */
export function fromQuery(query: string): Partial<Record<keyof Settings, unknown>> {
  const parameters = new URLSearchParams(query);
  const given: Partial<Record<keyof Settings, unknown>> = {};
  if (parameters.has("raw")) given.echoCancellation = given.noiseSuppression = given.autoGainControl = false;
  for (const [name, parameter] of Object.entries(LINKED) as [keyof typeof LINKED, string][]) {
    const text = parameters.get(parameter);
    if (text === null) continue;
    const kind = typeof DEFAULTS[name];
    given[name] = kind === "boolean" ? !["off", "0", "false", "no"].includes(text) : kind === "number" ? Number(text) : text;
  }
  return given;
}

/** The query that names what differs from the default, "" if nothing does. */
export function toQuery(settings: Settings): string {
  const parameters = new URLSearchParams();
  for (const [name, parameter] of Object.entries(LINKED) as [keyof typeof LINKED, string][]) {
    const value = settings[name];
    if (value === DEFAULTS[name]) continue;
    parameters.set(parameter, typeof value === "boolean" ? (value ? "on" : "off") : String(value));
  }
  const text = parameters.toString();
  return text && `?${text}`;
}

const KEY = "antiphon.settings";

export const settings = signal<Settings>(merged(merged(DEFAULTS, stored()), fromQuery(location.search)));

export function change(changes: Partial<Settings>): void {
  settings.value = merged(settings.value, changes);
  try {
    localStorage.setItem(KEY, JSON.stringify(settings.value));
  } catch {
    // Without storage the settings last until the page is left.
  }
}

function stored(): Partial<Record<keyof Settings, unknown>> {
  try {
    const value: unknown = JSON.parse(localStorage.getItem(KEY) ?? "{}");
    return value && typeof value === "object" ? value : {};
  } catch {
    return {}; // the browser allows this page no storage, or another program wrote there
  }
}
