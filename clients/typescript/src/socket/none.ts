/** What bundles for browsers have in place of `node.ts`, as package.json says: browsers have a WebSocket of their own. */
export {};
