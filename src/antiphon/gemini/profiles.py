"""What the models of Gemini Live do differently from each other: one table, by name.

Read in Google's documentation of September 2026. Whatever depends on the model asks here.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import replace

EMBEDDED: Final = "embedded"
"""The name that the embedded engine is given as its model."""


class Profile(Struct, frozen=True):
    """How a model is spoken to.

    `text` says how a typed turn goes within a session, `language_code` whether the set-up may name the
    language (a native audio model chooses it by itself, and refuses some codes). `behavior` is what
    functions are declared with where a model would otherwise not wait for results, `scheduling` what
    results carry where it never waits. `interruptible` says whether an empty `client_content` stops an
    answer; elsewhere it is an error, and only speech interrupts. `voice` is the default one.
    """

    text: Literal["realtime_input", "client_content"] = "realtime_input"
    language_code: bool = False
    behavior: Literal["", "BLOCKING"] = ""
    scheduling: Literal["", "WHEN_IDLE"] = ""
    interruptible: bool = False
    voice: str = ""


_NEWEST: Final = Profile(behavior="BLOCKING", interruptible=True, voice="Puck")

PROFILES: Final[tuple[tuple[str, Profile], ...]] = (
    (EMBEDDED, Profile(language_code=True, interruptible=True)),
    # Its functions are asynchronous in any case; asking for BLOCKING would be refused.
    ("gemini-3.8-live-extended-*", Profile(scheduling="WHEN_IDLE", interruptible=True, voice="Puck")),
    ("gemini-3.8-live*", _NEWEST),
    # Knows neither asynchronous functions nor, once the conversation has begun, client_content.
    ("gemini-3.1-*", Profile(voice="Puck")),
    ("gemini-*native-audio*", Profile(text="client_content", interruptible=True, voice="Puck")),
    (
        "gemini-live-2.5-*",
        Profile(text="client_content", language_code=True, interruptible=True, voice="Puck"),
    ),
    (
        "gemini-2.*",
        Profile(text="client_content", language_code=True, interruptible=True, voice="Puck"),
    ),
)
"""The first pattern that fits a model's name counts."""


def profile_of(model: str) -> Profile:
    """Return the profile of a model, with or without its path; an unknown one is taken for the newest."""
    name = model.rpartition("/")[2].lower()
    return next((profile for pattern, profile in PROFILES if fnmatchcase(name, pattern)), _UNKNOWN)


_UNKNOWN: Final = Profile(behavior=_NEWEST.behavior, interruptible=_NEWEST.interruptible)
"""Like the newest, but which voices it has is not known."""


class Voice(Struct, frozen=True):
    """Which model answers, and how it sounds; without a voice, as its profile says.

    `names_language` has the set-up name the language whatever the model's name: a server of one's own can
    use it, and says so by no name.
    """

    model: str
    voice: str = ""
    names_language: bool = False

    @property
    def profile(self) -> Profile:
        profile = profile_of(self.model)
        return replace(profile, language_code=True) if self.names_language else profile
