import type { Socket } from "./socket.js";

/** Opens the platform's own WebSocket. */
export function openSocket(url: string, protocols: string[]): Socket {
  return new WebSocket(url, protocols);
}
