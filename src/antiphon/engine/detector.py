"""Voice activity detection: Silero VAD, one model for every conversation and a state for each."""

from __future__ import annotations

from typing import Final, Self

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from antiphon.engine.models import ModelStore

RATE_HZ: Final = 16_000
FRAME_SAMPLES: Final = 512
FRAME_BYTES: Final = FRAME_SAMPLES * 2
FRAME_MS: Final = 32

MODEL: Final = "silero-vad.onnx"
ONSET_FRAMES: Final = 3
HANGOVER_FRAMES: Final = 17
"""544 ms: the pause that ends an utterance. Shorter ones split sentences, longer ones delay every answer."""

BEGIN_PROBABILITY: Final = 0.5
STAY_PROBABILITY: Final = 0.35
_CONTEXT_SAMPLES: Final = 64
_RATE: Final = np.array(RATE_HZ)


class DetectorModel:
    """The network, shared by all conversations; safe to use from several threads."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self.session = session

    @classmethod
    def load(cls, store: ModelStore) -> Self:
        """Load the model (30 ms, 15 MB).

        Raises:
            ModelError: the model file is missing or damaged.
        """
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        model = store.read(MODEL)
        return cls(ort.InferenceSession(model, options, providers=["CPUExecutionProvider"]))


class Detector:
    """Tells speech from silence in one run of audio, frame by frame, with hysteresis.

    `speaking` becomes true after about 100 ms of speech and false after `HANGOVER_FRAMES` without any.
    `silent_frames` counts the frames since the last one with speech in it.
    """

    def __init__(self, model: DetectorModel) -> None:
        self._session = model.session
        self.reset()

    def reset(self) -> None:
        """Forget what was heard: the next frame is of new audio."""
        self._state: npt.NDArray[np.float32] = np.zeros((2, 1, 128), np.float32)
        self._input = np.zeros((1, _CONTEXT_SAMPLES + FRAME_SAMPLES), np.float32)
        self.stop()

    def stop(self) -> None:
        """Take speech to be over, whatever came last."""
        self.speaking = False
        self.silent_frames = 0
        self._voiced_frames = 0

    def feed(self, frame: bytes) -> float:
        """Take the next frame, 32 ms of 16 kHz mono PCM16; return how likely it is speech.

        Takes 0.2 ms, little enough for the event loop.
        """
        probability = self._probability(frame)
        if probability >= (STAY_PROBABILITY if self.speaking else BEGIN_PROBABILITY):
            self._voiced_frames += 1
            self.silent_frames = 0
        elif self.speaking:
            self.silent_frames += 1
        else:
            self._voiced_frames = max(0, self._voiced_frames - 1)
        if not self.speaking:
            self.speaking = self._voiced_frames >= ONSET_FRAMES
        elif self.silent_frames >= HANGOVER_FRAMES:
            self.speaking = False
            self._voiced_frames = 0
        return probability

    def _probability(self, frame: bytes) -> float:
        self._input[0, :_CONTEXT_SAMPLES] = self._input[0, -_CONTEXT_SAMPLES:]
        self._input[0, _CONTEXT_SAMPLES:] = np.frombuffer(frame, np.int16)
        self._input[0, _CONTEXT_SAMPLES:] /= 32768
        output, self._state = self._session.run(
            None, {"input": self._input, "state": self._state, "sr": _RATE}
        )
        return float(output[0, 0])
