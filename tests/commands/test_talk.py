"""`antiphon talk` without a file, as its users run it."""

from __future__ import annotations

from pathlib import Path

from .running import antiphon, clean_environ

LIBRARY = Path(__file__).parents[1] / "sound_library"


async def test_a_machine_without_sound(tmp_path: Path) -> None:
    environ = clean_environ(tmp_path, PYTHONPATH=str(LIBRARY), TEST_SOUND="no device")
    status, out, err = await antiphon("talk", "--token", "a token", environ=environ)
    assert (status, out) == (1, "")
    assert err == (
        "antiphon: No microphone and loudspeaker can be opened: Error querying device -1. "
        "Or name a sound FILE.\n"
    )
