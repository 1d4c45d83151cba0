import type { CallOptions, MicrophoneOptions } from "@antiphon/client";
import workletUrl from "@antiphon/client/worklet.js?url";
import { openFaulty } from "../faults/faulty_socket.js";
import type { Settings } from "../state/settings.js";
import { token } from "../state/token.js";
import { encoderOf } from "./encoders.js";

/** What a call with these settings is made with. */
export function callOptions(settings: Settings): CallOptions {
  const { language, base, allCommands, talk, encoder, playbackBufferMs, outputDeviceId, volume } = settings;
  return {
    url: socketUrl(),
    token: () => token.value,
    output: { deviceId: outputDeviceId || undefined, volume },
    language,
    base,
    pushToTalk: talk !== "open",
    tools: allCommands ? {} : undefined,
    encoder: encoderOf(encoder),
    playbackBufferMs,
    workletUrl,
    wakeLock: true,
    socket: openFaulty,
  };
}

export function microphoneOptions(settings: Settings): MicrophoneOptions {
  const { deviceId, echoCancellation, noiseSuppression, autoGainControl } = settings;
  return { deviceId: deviceId || undefined, echoCancellation, noiseSuppression, autoGainControl };
}

/** The gateway's WebSocket is beside the page, wherever that is mounted. */
export function socketUrl(): string {
  const url = new URL("ws", document.baseURI);
  url.protocol = url.protocol.replace("http", "ws");
  url.search = url.hash = "";
  return url.href;
}
