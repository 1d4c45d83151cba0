"""The speech models, loaded once."""

from collections.abc import AsyncIterator

import pytest

from antiphon.engine.detector import DetectorModel
from antiphon.engine.models import ModelStore, default_directory
from antiphon.engine.moonshine import Moonshine
from antiphon.engine.recognizer import Recognizer
from antiphon.engine.synthesizer import Synthesizer


@pytest.fixture(scope="session")
def store() -> ModelStore:
    """What `antiphon models pull` fetched; where it was not, tests fail with the sentence that says so."""
    store = ModelStore(default_directory())
    if problems := store.verify():
        pytest.fail(" ".join(problems), pytrace=False)
    return store


@pytest.fixture(scope="session")
def moonshine(store: ModelStore) -> Moonshine:
    return Moonshine.load(store)


@pytest.fixture(scope="session")
def detector_model(store: ModelStore) -> DetectorModel:
    return DetectorModel.load(store)


@pytest.fixture
async def recognizer(moonshine: Moonshine) -> AsyncIterator[Recognizer]:
    async with Recognizer(moonshine, workers=2) as recognizer:
        yield recognizer


@pytest.fixture
async def synthesizer(store: ModelStore) -> AsyncIterator[Synthesizer]:
    async with Synthesizer.load(store) as synthesizer:
        yield synthesizer
