"""The embedded engine: a Gemini Live server of our own, so that the gateway is complete without a key."""
