import { signal } from "@preact/signals";

/** What was last copied or saved, for whoever cannot see it. */
export const told = signal("");

/** Puts text on the clipboard, and tells so. */
export async function copyText(text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
    tell("Copied.");
  } catch {
    tell("The browser does not let this page copy: mark the text and copy it yourself.");
  }
}

/** Hands a file to the browser, to be kept where the user wants it. */
export function saveFile(name: string, text: string): void {
  const url = URL.createObjectURL(new Blob([text], { type: "application/x-ndjson" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000); // a click only begins the download
  tell(`Saved as ${name}.`);
}

/** "antiphon-messages-2026-01-31T12-03-04.jsonl" */
export function stampedName(what: string, extension: string): string {
  return `antiphon-${what}-${new Date().toISOString().slice(0, 19).replaceAll(":", "-")}.${extension}`;
}

let passing: ReturnType<typeof setTimeout> | undefined;

function tell(words: string): void {
  told.value = words;
  clearTimeout(passing);
  passing = setTimeout(() => (told.value = ""), 4000);
}
