"""A session: everything that happens between one client and one model, without I/O."""

from antiphon.session.machine import Session
from antiphon.session.negotiation import Limits
from antiphon.session.states import LEGAL, State

__all__ = ["LEGAL", "Limits", "Session", "State"]
