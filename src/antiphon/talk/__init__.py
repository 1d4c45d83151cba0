"""`antiphon talk`: speak to a gateway, by files or by microphone; show what it hears and answers."""

from antiphon.talk.command import add_arguments, run, talk
from antiphon.talk.errors import TalkError
from antiphon.talk.turn import Exchange, Turn

__all__ = ["Exchange", "TalkError", "Turn", "add_arguments", "run", "talk"]
