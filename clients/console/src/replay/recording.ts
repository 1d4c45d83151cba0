import type { CallEvent, WireEvent } from "@antiphon/client";
import type { Session } from "../state/session.js";
import type { Settings } from "../state/settings.js";

const FORMAT = "antiphon-session";
const VERSION = 1;
const MOST_BYTES = 64 * 1024 * 1024;

interface Header {
  format: typeof FORMAT;
  version: number;
  savedAt: string;
  /** Date.now() of this page's performance.now() 0. */
  timeOrigin: number;
  userAgent: string;
  settings: Partial<Settings>;
  clock?: { offsetMs: number; rttMs: number };
  /** Events that were too many to be kept; these were the oldest. */
  forgotten: number;
}

type Line = { at: number; event: CallEvent } | { levels: [at: number, input: number, output: number][] };

/** A session as it was: everything that came, by performance.now() of then. */
export interface Recording {
  header: Header;
  events: readonly { at: number; event: CallEvent }[];
  levels: readonly [at: number, input: number, output: number][];
  from: number;
  to: number;
}

/** The session as JSON Lines: a head, then every event and message. It has no token and no audio. */
export function exported(session: Session, settings: Settings, clock: Header["clock"]): string {
  const { deviceId: _device, outputDeviceId: _output, answers: _answers, ...told } = settings;
  const header: Header = {
    format: FORMAT,
    version: VERSION,
    savedAt: new Date().toISOString(),
    timeOrigin: performance.timeOrigin,
    userAgent: navigator.userAgent,
    settings: told,
    forgotten: session.forgotten,
    ...(clock && { clock }),
  };
  const levels: [number, number, number][] = [];
  session.levels.between(-Infinity, Infinity, (at, input, output) => {
    levels.push([Math.round(at), Math.round(255 * input), Math.round(255 * output)]);
  });
  const lines = [...eventLines(session), ...wireLines(session)].sort((a, b) => a.at - b.at);
  return [header, { levels: levels.reverse() }, ...lines].map((line) => `${JSON.stringify(line)}\n`).join("");
}

function eventLines(session: Session): { at: number; event: unknown }[] {
  return session.events.map(({ at, event }) => {
    const { signal: _signal, error, ...told } = event as CallEvent & { signal?: unknown; error?: unknown };
    return { at, event: error === undefined ? told : { ...told, error: plain(error) } };
  });
}

/** An error without its prototype: JSON leaves out what is not enumerable. */
function plain(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  const { name, message, code, kind } = error as Error & { code?: string; kind?: string };
  return { name, message, code, kind };
}

function wireLines(session: Session): { at: number; event: unknown }[] {
  return session.log.entries.map(({ at, direction, bytes, binary, text }) => ({
    at,
    event: { type: "wire", at, direction, bytes, binary, message: JSON.parse(text) as WireEvent["message"] },
  }));
}

/**
 * Reads what `exported` wrote.
 *
 * @throws Error with a sentence that says what is wrong with the file.
 */
export async function parsed(file: Blob): Promise<Recording> {
  if (file.size > MOST_BYTES) throw new Error("The file is larger than 64 MB: that is no exported session.");
  const lines = (await file.text()).split("\n").filter(Boolean);
  const header = json(lines[0] ?? "", 1) as Header;
  if (header?.format !== FORMAT) throw new Error("The file is no session that was exported by this page.");
  if (header.version !== VERSION) throw new Error(`The file is of version ${header.version}; this page reads ${VERSION}.`);
  const events: Recording["events"][number][] = [];
  let levels: Recording["levels"] = [];
  for (const [index, text] of lines.slice(1).entries()) {
    const line = json(text, index + 2) as Line;
    if ("levels" in line && Array.isArray(line.levels)) levels = line.levels;
    else if ("event" in line && Number.isFinite(line.at) && typeof line.event?.type === "string") events.push(line);
    else throw new Error(`Line ${index + 2} of the file is not one of an exported session.`);
  }
  if (!events.length) throw new Error("There is nothing in this session.");
  events.sort((a, b) => a.at - b.at);
  return { header, events, levels, from: events[0]!.at, to: events.at(-1)!.at };
}

function json(text: string, line: number): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new Error(`Line ${line} of the file is no JSON: it is no exported session, or not all of it.`);
  }
}
