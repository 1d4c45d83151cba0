import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { live } from "../call/live.js";
import { ReplayPlayer } from "../replay/player.js";
import { parsed } from "../replay/recording.js";
import { replay } from "../state/view.js";

const over = signal(false);

/** Takes a file that is dropped anywhere: audio is said, an exported session is shown. */
export function DropZone() {
  useEffect(() => {
    const listen = { signal: new AbortController() };
    const add = (type: "dragover" | "dragleave" | "drop", act: (event: DragEvent) => void) =>
      addEventListener(type, act, { signal: listen.signal.signal });
    add("dragover", (event) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      over.value = true;
    });
    add("dragleave", (event) => {
      if (!event.relatedTarget) over.value = false;
    });
    add("drop", (event) => {
      event.preventDefault();
      over.value = false;
      const file = event.dataTransfer?.files[0];
      if (file) void takeFile(file);
    });
    return () => listen.signal.abort();
  }, []);
  if (!over.value) return null;
  return (
    <div class="drop" aria-hidden="true">
      <p>Drop an audio file to say it, or an exported session to replay it.</p>
    </div>
  );
}

export async function takeFile(file: File): Promise<void> {
  if (/\.jsonl?$/i.test(file.name)) return showReplay(file);
  replay.value = undefined;
  await live.sendFile(file);
}

async function showReplay(file: File): Promise<void> {
  try {
    const player = new ReplayPlayer(await parsed(file), file.name);
    live.settle("file");
    replay.value?.pause();
    replay.value = player;
  } catch (error) {
    live.tell({ about: "file", title: `“${file.name}” cannot be replayed`, words: (error as Error).message });
  }
}

/** Asks for an audio file, or an exported session. */
export function openFile(): void {
  const input = document.createElement("input");
  input.type = "file";
  input.accept = "audio/*,.jsonl";
  input.addEventListener("change", () => {
    const file = input.files?.[0];
    if (file) void takeFile(file);
  });
  input.click();
}
