/** The microphones and outputs there are; without names before a microphone was allowed, perhaps without outputs. */
export async function devices(): Promise<{ microphones: MediaDeviceInfo[]; outputs: MediaDeviceInfo[] }> {
  // A page that is not over https has no devices.
  const all = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  return {
    microphones: all.filter(({ kind }) => kind === "audioinput"),
    outputs: all.filter(({ kind }) => kind === "audiooutput"),
  };
}

/**
 * Calls `listener` when devices come or go; call the result to have it no longer. Chrome on Android never tells: there
 * a microphone that is lost is known by its end alone.
 */
export function onDevicesChanged(listener: () => void): () => void {
  const media = globalThis.navigator?.mediaDevices;
  media?.addEventListener("devicechange", listener);
  return () => media?.removeEventListener("devicechange", listener);
}
