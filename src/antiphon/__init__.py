"""Antiphon: a voice gateway between WebSocket clients and Gemini Live."""

__version__ = "0.1.0"
