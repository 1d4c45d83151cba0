import { signal } from "@preact/signals";

/** Which gateway this is, in words. */
export const about = signal({ name: "", words: "" });

/** Asks the gateway who it is. Its addresses are relative: it may be mounted under a path. */
export async function readAbout(): Promise<void> {
  try {
    const answer = await fetch("about", { cache: "no-store" });
    const { name, version, upstream } = (await answer.json()) as { name: string; version: string; upstream: string };
    about.value = { name: `${name} ${version}`, words: `Answers come from: ${upstream}` };
  } catch {
    about.value = { name: "", words: `The server does not answer at ${location.host}.` };
  }
}
