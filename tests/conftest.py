"""What all tests share: helpers whose asserts say what they saw."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Tests are of the sources, unless told otherwise; processes that they start run what is installed.
_asked = os.environ.get("ANTIPHON_INTERPRETED")
os.environ.setdefault("ANTIPHON_INTERPRETED", "1")
import built_page  # noqa: E402
from antiphon import COMPILED, page  # noqa: E402

if _asked is None:
    del os.environ["ANTIPHON_INTERPRETED"]

pytest.register_assert_rewrite(
    "gateway.extended", "gateway.raw_socket", "gateway.running", "gateway.talker", "grammar"
)

# On a busy machine anything is slow to be made, and to be tried.
settings.register_profile("busy", suppress_health_check=[HealthCheck.too_slow], deadline=None)
settings.load_profile("busy")
settings.register_profile("again", max_examples=20)
"""For the other Pythons: what was tried on many examples is tried on some."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if COMPILED and item.get_closest_marker("interpreted"):
            item.add_marker(pytest.mark.skip("of the sources only"))


@pytest.fixture
def console(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have the gateways of a test serve the page of `built_page`, whatever is built; return its folder."""
    folder = tmp_path / "console"
    built_page.write(folder)
    monkeypatch.setattr(page, "FOLDER", folder)
    return folder
