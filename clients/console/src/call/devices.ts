import { effect, signal } from "@preact/signals";
import { devices } from "@antiphon/client";
import { live } from "./live.js";

/** What there is to hear and to speak with; without a name until the microphone was allowed once. */
export const microphones = signal<readonly MediaDeviceInfo[]>([]);
export const outputs = signal<readonly MediaDeviceInfo[]>([]);

/** Whether this browser lets one choose where it is heard. */
export const canChooseOutput = "setSinkId" in (globalThis.AudioContext?.prototype ?? {});

export function watchDevices(): void {
  effect(() => {
    void live.deviceVersion.value;
    void devices().then(
      (found) => {
        microphones.value = found.microphones;
        outputs.value = found.outputs;
      },
      () => undefined, // there are none on an address that is not secure
    );
  });
}
