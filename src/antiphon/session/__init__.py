"""A session: everything that happens between one client and one model, without I/O."""

from antiphon.session.machine import LEGAL, Session, State
from antiphon.session.negotiation import Limits

__all__ = ["LEGAL", "Limits", "Session", "State"]
