"""What is known of each model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.gemini.profiles import EMBEDDED, PROFILES, Profile, profile_of

NEWEST = Profile(behavior="BLOCKING", interruptible=True, voice="Puck")
HALF_CASCADE = Profile(text="client_content", language_code=True, interruptible=True, voice="Puck")
NATIVE = Profile(text="client_content", interruptible=True, voice="Puck")


@pytest.mark.parametrize(
    ("model", "profile"),
    [
        ("gemini-3.8-live", NEWEST),
        ("models/gemini-3.8-live", NEWEST),
        ("projects/p/locations/l/publishers/google/models/gemini-3.8-live", NEWEST),
        ("Gemini-3.8-Live", NEWEST),
        (
            "gemini-3.8-live-extended-thinking",
            Profile(scheduling="WHEN_IDLE", interruptible=True, voice="Puck"),
        ),
        ("gemini-3.1-flash-live-preview", Profile(voice="Puck")),
        ("gemini-2.5-flash-native-audio-preview-12-2025", NATIVE),
        ("gemini-live-2.5-flash-native-audio", NATIVE),
        ("gemini-live-2.5-flash", HALF_CASCADE),
        ("gemini-2.0-flash-live-001", HALF_CASCADE),
        (EMBEDDED, Profile(language_code=True, interruptible=True)),
        ("tunedModels/mine", Profile(behavior="BLOCKING", interruptible=True)),
        ("", Profile(behavior="BLOCKING", interruptible=True)),
    ],
)
def test_known_models(model: str, profile: Profile) -> None:
    assert profile_of(model) == profile


@given(st.text())
def test_every_name_has_a_profile(model: str) -> None:
    profile = profile_of(model)
    assert not (profile.behavior and profile.scheduling), "a model that waits needs no schedule"


def test_no_pattern_hides_another() -> None:
    for pattern, profile in PROFILES:
        assert profile_of(pattern.replace("*", "x")) == profile
