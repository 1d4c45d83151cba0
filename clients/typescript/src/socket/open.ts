import type { Socket } from "./socket.js";

/** Opens the platform's own WebSocket; Node 20 has none, so there it is ours. */
export async function openSocket(url: string, protocols: string[]): Promise<Socket> {
  if (typeof WebSocket !== "undefined") return new WebSocket(url, protocols);
  const { NodeSocket } = await import("./node.js"); // which package.json keeps out of bundles for browsers
  return new NodeSocket(url, protocols);
}
