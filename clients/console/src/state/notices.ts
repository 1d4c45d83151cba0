import type { CallError, CallEvent, MicrophoneErrorKind } from "@antiphon/client";

/** What a notice is about; there is one of each at most. */
export type Subject = "token" | "microphone" | "connection" | "model" | "sound" | "gateway" | "file" | "settings";

export interface Notice {
  about: Subject;
  title: string;
  words: string;
  /** The microphone is lost, or the call is over: said at once. */
  urgent?: boolean;
  /** What can be done about it here. */
  action?: "token" | "again" | "sound";
  /** Goes by itself. */
  passing?: boolean;
  /** Said from then on only: most things of its kind are over before. */
  from?: number;
}

export type Notices = readonly Notice[];

export const TOKEN_HELP = "Open the link that “make serve” or “antiphon serve” printed last, or paste it here.";

const TYPE_ON = "Until then you can type.";

export const MICROPHONE_TROUBLE: Record<MicrophoneErrorKind, [title: string, words: string]> = {
  "permission-denied": [
    "The microphone is blocked",
    `Allow it beside the address at the top of the window, then press the button again. ${TYPE_ON}`,
  ],
  "permission-dismissed": [
    "The microphone was not allowed",
    `The question was closed without an answer. Press the button again and allow it. ${TYPE_ON}`,
  ],
  "not-found": ["No microphone was found", `Connect one and press the button again. ${TYPE_ON}`],
  "in-use": [
    "The microphone cannot be opened",
    `Another program may be using it. Close that one and press the button again. ${TYPE_ON}`,
  ],
  constraints: [
    "The chosen microphone is not there",
    `Choose another one under Setup, and press the button again. ${TYPE_ON}`,
  ],
  ended: ["The microphone was disconnected", "Connect it again, or choose another, and press the button."],
  silent: [
    "Nothing comes from the microphone",
    "The device or the system has switched it off, or the browser’s audio stands still, as where it finds no " +
      "loudspeaker. Switch it on, or choose another under Setup; if it stays so, reload the page.",
  ],
  "insecure-context": [
    "The browser gives this address no microphone",
    "It does so only over https, or on the server’s own machine at http://127.0.0.1. You can still type.",
  ],
  unsupported: [
    "This browser cannot take part in a conversation",
    "A current Chrome, Edge, Firefox or Safari can. You can still type.",
  ],
};

export function microphoneNotice(kind: MicrophoneErrorKind): Notice {
  const [title, words] = MICROPHONE_TROUBLE[kind];
  return { about: "microphone", title, words, urgent: true };
}

export function tokenNotice(title = "A token is needed", words = TOKEN_HELP): Notice {
  return { about: "token", title, words, action: "token" };
}

/** How long the model may be away without a word about it. */
const AWAY_MS = 3000;
const AWAY: ReadonlySet<string> = new Set(["lost", "refused", "mute"]);

function modelNotice(words: string, from: number): Notice {
  return { about: "model", title: "The model is not available", words, from };
}

const TOKEN_CODES = new Set(["AUTH_TOKEN_INVALID", "AUTH_TOKEN_EXPIRED", "AUTH_REQUIRED", "TOKEN_UNAVAILABLE"]);
const GONE_CODES = new Set(["CONNECT_FAILED", "CONNECT_TIMEOUT", "CONNECTION_LOST"]);

/** What there is to say when a call is over for good. */
export function closedNotice(error: CallError): Notice {
  const { code, message } = error;
  if (TOKEN_CODES.has(code)) {
    return { ...tokenNotice("Another token is needed", `${message} ${TOKEN_HELP}`), urgent: true };
  }
  const over = { about: "connection", urgent: true, action: "again" } as const;
  if (code === "SESSION_IDLE") {
    return { about: "connection", title: "Closed for now", words: `${message} Press the button to go on.` };
  }
  if (GONE_CODES.has(code)) return { ...over, title: "The server is gone", words: message };
  if (code.startsWith("UPSTREAM_")) return { ...over, title: "The model is not available", words: message };
  if (code === "UNSUPPORTED") {
    return { about: "connection", title: "This browser cannot do that", words: message, urgent: true };
  }
  return { ...over, title: "The conversation has ended", words: message };
}

/** The notices after an event that came at `at`, performance.now(). */
export function noticesAfter(notices: Notices, at: number, event: CallEvent): Notices {
  switch (event.type) {
    case "connected": {
      const rest = without(notices, "connection", "token");
      return event.recovered ? rest : without(rest, "model");
    }
    case "rotation":
      if (event.stage === "rotated") return without(notices, "model");
      if (!AWAY.has(event.reason) || notices.some(({ about }) => about === "model")) return notices;
      return withNotice(notices, modelNotice("The gateway tries to reach it again.", at + AWAY_MS));
    case "response":
      return without(notices, "model");
    case "reconnecting":
      if (event.code.startsWith("UPSTREAM_")) {
        return withNotice(without(notices, "connection"), modelNotice(`${event.reason} The page keeps trying.`, at));
      }
      return withNotice(notices, {
        about: "connection",
        title: "No connection",
        words: `${event.reason} Trying again; what you say meanwhile is kept and sent.`,
        action: "again",
      });
    case "closed":
      return event.error
        ? withNotice(without(notices, "connection", "model"), closedNotice(event.error))
        : without(notices, "connection", "model");
    case "microphone":
      if (event.error) return withNotice(notices, microphoneNotice(event.error.kind));
      return event.state === "off" ? notices : without(notices, "microphone");
    case "playbackBlocked":
      if (!event.blocked) return without(notices, "sound");
      return withNotice(notices, {
        about: "sound",
        title: "Nothing can be heard",
        words: "The browser has stopped this page’s sound, or waits for a click before there is any.",
        action: "sound",
      });
    case "goAway":
      if (event.reason !== "token") return notices;
      return withNotice(notices, tokenNotice("The token is about to expire", `Paste a new one to go on. ${TOKEN_HELP}`));
    case "error":
      return withNotice(notices, { about: "gateway", title: "The gateway says", words: event.message, passing: true });
    case "audioDropped":
      return withNotice(notices, {
        about: "gateway",
        title: "Speech was dropped",
        words: `${(event.ms / 1000).toFixed(1)} s of it: more waited for a connection than may be kept.`,
        passing: true,
      });
    default:
      return notices;
  }
}

/** With the notice in place of the one about the same; those that are urgent come first. */
export function withNotice(notices: Notices, notice: Notice): Notices {
  const same = notices.find(({ about }) => about === notice.about);
  if (same && same.title === notice.title && same.words === notice.words && same.urgent === notice.urgent) return notices;
  const others = notices.filter((other) => other !== same);
  return notice.urgent ? [notice, ...others] : [...others, notice];
}

export function without(notices: Notices, ...subjects: Subject[]): Notices {
  return notices.some(({ about }) => subjects.includes(about))
    ? notices.filter(({ about }) => !subjects.includes(about))
    : notices;
}
