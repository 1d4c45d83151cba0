import { signal } from "@preact/signals";

const KEY = "antiphon.token";

/** The token in use, or "". It survives a reload of this tab, and nothing else. */
export const token = signal(stored());

/** Takes a token, or the link that has it, and returns whether there was one. */
export function takeToken(text: string): boolean {
  const found = text.trim().replace(/^.*#token=/, "");
  if (found) storeToken(found);
  return Boolean(found);
}

/** Takes the token out of the page's address, and out of sight. */
export function takeTokenOfAddress(): boolean {
  const found = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!found) return false;
  history.replaceState(null, "", location.pathname + location.search);
  return takeToken(found);
}

export function forgetToken(): void {
  storeToken("");
}

function storeToken(value: string): void {
  token.value = value;
  try {
    sessionStorage.setItem(KEY, value);
  } catch {
    // Without storage the token lasts until the page is left.
  }
}

function stored(): string {
  try {
    return sessionStorage.getItem(KEY) ?? "";
  } catch {
    return ""; // the browser allows this page no storage
  }
}
