"""Antiphon: a voice gateway between WebSocket clients and Gemini Live."""

from antiphon import compiled

__version__ = "0.1.0"

COMPILED = compiled.in_use()
"""Where the hot modules' compiled form is, if it is what runs."""

if COMPILED:
    compiled.prefer(COMPILED)
