import type { MicrophoneOptions } from "../options.js";

/**
 * Asks for the microphone at once, before anything is awaited or loaded: a click counts. "" is the usual one. What the
 * browser rejects with is named by `Microphone.open`.
 */
export async function askForMicrophone(
  options: MicrophoneOptions,
  deviceId = options.deviceId,
): Promise<MediaStream> {
  const { echoCancellation = true, noiseSuppression = true, autoGainControl = true } = options;
  const audio: MediaTrackConstraints = { channelCount: 1, echoCancellation, noiseSuppression, autoGainControl };
  if (deviceId) audio.deviceId = { exact: deviceId };
  return navigator.mediaDevices.getUserMedia({ audio });
}
