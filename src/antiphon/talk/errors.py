"""What ends `antiphon talk`."""


class TalkError(Exception):
    """What went wrong, as a sentence."""
