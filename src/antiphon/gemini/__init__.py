"""Gemini Live, for Google, Vertex AI, the embedded engine and anything like them, by gRPC or WebSocket."""
