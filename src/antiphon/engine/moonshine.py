"""The speech model: Moonshine tiny, decoded with a small beam search."""

from __future__ import annotations

import re
from collections.abc import Sequence
from operator import itemgetter
from threading import Event
from typing import Any, Final, NamedTuple, Self

import msgspec
import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from msgspec import Struct

from antiphon.engine.models import ModelStore

RATE_HZ: Final = 16_000

ENCODER: Final = "moonshine-tiny-en-encoder.onnx"
DECODER: Final = "moonshine-tiny-en-decoder.onnx"
TOKENIZER: Final = "moonshine-tiny-en-tokenizer.json"

_START: Final = 1
_END: Final = 2
_PAST_SHAPE: Final = (1, 8, 0, 36)
"""Hypotheses, heads, tokens so far, width of a head."""

_MIN_SAMPLES: Final = RATE_HZ // 10
"""The encoder's convolutions need 56 ms; what is shorter than 100 ms says nothing."""

_TOKENS_PER_SECOND: Final = 6.5
_SPARE_TOKENS: Final = 4
"""English needs no more (the model's own limit is the same); a decoder that goes on is repeating itself."""

_NO_SPEECH: Final = 0.95
_DOUBTFUL: Final = 0.5
_MIN_CONFIDENCE: Final = 0.35
"""How sure the model is at the first token that nothing was said: 0.98 to 1.00 in noise, tones and music, but
up to 0.94 in speech that is noisy or a list of digits. So it is believed at 0.95, and overruled below. From
0.5 on its words must then be worth as much confidence as words were that were said."""

_LOOP_TOKENS: Final = 16
_LOOP_REPEATS: Final = 4
_BYTE_TOKEN: Final = re.compile(r"<0x([0-9A-F]{2})>")

_Array = npt.NDArray[np.float32]


class Transcript(Struct, frozen=True):
    """What was recognised.

    `confidence` is the exponential of the tokens' mean log-probability (clean speech 0.9 to 0.98, with
    noise at 5 dB 0.74), and 0.0 for empty text. `tokens` are a draft for more of the same audio.
    """

    text: str
    confidence: float
    tokens: tuple[int, ...] = ()


NOTHING: Final = Transcript("", 0.0)


class _Hypothesis(NamedTuple):
    """Tokens that may have been said. Sorts by `score`, the tokens' mean log-probability."""

    score: float
    tokens: list[int]
    ended: bool


class Moonshine:
    """The model and its vocabulary. Safe to use from several threads at once."""

    def __init__(
        self, encoder: ort.InferenceSession, decoder: ort.InferenceSession, vocabulary: list[str]
    ) -> None:
        self._encoder = encoder
        self._decoder = decoder
        self._vocabulary = vocabulary
        self._past = [one.name for one in decoder.get_inputs() if one.name.startswith("past_key_values.")]
        # What attends to the encoder's output does not change after the first step.
        self._changing_past = [name for name in self._past if ".decoder." in name]
        self._changing = [one.name for one in decoder.get_outputs() if ".encoder." not in one.name]

    @classmethod
    def load(cls, store: ModelStore) -> Self:
        """Load the model from its three files (0.7 s, 190 MB).

        Raises:
            ModelError: one is missing or damaged.
        """
        numbers: dict[str, int] = msgspec.json.decode(store.read(TOKENIZER))["model"]["vocab"]
        return cls(
            _session(store.read(ENCODER)),
            _session(store.read(DECODER)),
            [token for token, _ in sorted(numbers.items(), key=itemgetter(1))],
        )

    def transcribe(self, pcm: bytes, stop: Event, beams: int, draft: Sequence[int] = ()) -> Transcript:
        """Return what is said in 16 kHz mono PCM16 of at most 30 s, or `NOTHING` soon after `stop` is set.

        Four beams take 1.3 times as long as one, and make a sixth fewer errors in noise. `draft` is what was
        recognised in the beginning of the same audio: what of it still holds is not searched for again, which
        saves 30% of the time. The model rounds tokens differently that it is given together, so words may
        differ a little: it is for partials.
        """
        samples = np.frombuffer(pcm, np.int16).astype(np.float32) / 32768
        # Digital silence is the one kind of silence that the model may hear words in.
        if samples.size < _MIN_SAMPLES or not samples.any():
            return NOTHING
        (hidden,) = self._encoder.run(None, {"input_values": samples[np.newaxis]})
        if stop.is_set():
            return NOTHING
        limit = int(samples.size / RATE_HZ * _TOKENS_PER_SECOND) + _SPARE_TOKENS
        best = self._search(hidden, limit, beams, stop, [*draft[: limit - 1]])
        if best is None:
            return NOTHING
        tokens = best.tokens if best.ended else without_loop(best.tokens)
        text = self._text(tokens)
        return Transcript(text, float(np.exp(best.score)), tuple(tokens)) if text else NOTHING

    def _search(
        self, hidden: _Array, limit: int, beams: int, stop: Event, draft: list[int]
    ) -> _Hypothesis | None:
        """Return the best of the hypotheses found in at most `limit` steps; None for no speech."""
        past: dict[str, _Array] = dict.fromkeys(self._past, np.zeros(_PAST_SHAPE, np.float32))
        # All tokens of the draft in one go: a step's time goes into reading the model, not into computing.
        logits, *present = self._decoder.run(None, self._input([[_START, *draft]], hidden, past, first=True))
        past.update(zip(self._past, present, strict=True))
        drafted = _log_softmax(logits[0])
        no_speech = float(np.exp(drafted[0, _END]))
        if no_speech >= _NO_SPEECH:
            return None
        drafted[0, _END] = -np.inf
        agreed = _agreed(drafted, draft)
        if agreed < len(draft):
            past.update((name, past[name][:, :, : agreed + 1]) for name in self._changing_past)
        totals = drafted[range(agreed), draft[:agreed]].sum(keepdims=True)
        alive, scores = [[_START, *draft[:agreed]]], drafted[agreed : agreed + 1]
        ended: list[_Hypothesis] = []
        for step in range(agreed + 1, limit + 1):
            scores += totals[:, np.newaxis]
            origins: list[int] = []
            kept: list[list[int]] = []
            candidates = _largest(scores.ravel(), 2 * beams)
            for rank, candidate in enumerate(candidates):
                origin, token = divmod(int(candidate), scores.shape[1])
                if token == _END and rank < beams:
                    ended.append(_Hypothesis(float(scores[origin, token]) / step, alive[origin][1:], True))
                elif token != _END and len(kept) < beams:
                    origins.append(origin)
                    kept.append([*alive[origin], token])
            totals = scores[origins, [tokens[-1] for tokens in kept]]
            alive = kept
            if (ended and max(ended).score >= totals[0] / step) or loop_period(alive[0]) or step == limit:
                break
            if stop.is_set():
                return None
            if origins != list(range(len(past[self._changing_past[0]]))):
                past.update((name, past[name][origins]) for name in self._changing_past)
            last = [tokens[-1:] for tokens in alive]
            logits, *present = self._decoder.run(self._changing, self._input(last, hidden, past, first=False))
            past.update(zip(self._changing_past, present, strict=True))
            scores = _log_softmax(logits[:, -1])
        best = max(ended, default=_Hypothesis(float(totals[0]) / step, alive[0][1:], False))
        return None if no_speech >= _DOUBTFUL and np.exp(best.score) < _MIN_CONFIDENCE else best

    def _input(
        self, tokens: list[list[int]], hidden: _Array, past: dict[str, _Array], *, first: bool
    ) -> dict[str, npt.NDArray[Any]]:
        return {
            "input_ids": np.array(tokens),
            "encoder_hidden_states": hidden,
            "use_cache_branch": np.array([not first]),
            **past,
        }

    def _text(self, tokens: list[int]) -> str:
        """Join tokens as SentencePiece does: "▁" begins a word, "<0x..>" is one byte of UTF-8."""
        joined = bytearray()
        for number in tokens:
            token = self._vocabulary[number] if _END < number < len(self._vocabulary) else ""
            if byte := _BYTE_TOKEN.fullmatch(token):
                joined.append(int(byte[1], 16))
            else:
                joined += token.replace("▁", " ").encode()
        return joined.decode(errors="ignore").strip()


def _agreed(scores: _Array, draft: list[int]) -> int:
    """Return how many tokens of the draft are the likeliest ones."""
    for place, token in enumerate(draft):
        if scores[place].argmax() != token:
            return place
    return len(draft)


def loop_period(tokens: list[int]) -> int:
    """Return the shortest period with which the end of `tokens` repeats over and over, 0 if it does not."""
    for period in range(1, len(tokens) // _LOOP_REPEATS + 1):
        length = max(_LOOP_TOKENS, period * _LOOP_REPEATS)
        if len(tokens) >= length and tokens[-length:-period] == tokens[-length + period :]:
            return period
    return 0


def without_loop(tokens: list[int]) -> list[int]:
    """Drop what repeats at the end, but for its first time."""
    period, end = loop_period(tokens), len(tokens)
    while (
        period and end >= 2 * period and tokens[end - 2 * period : end - period] == tokens[end - period : end]
    ):
        end -= period
    return tokens[:end]


def _log_softmax(logits: _Array) -> _Array:
    shifted = logits - logits.max(axis=1, keepdims=True)
    scores: _Array = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return scores


def _largest(values: _Array, count: int) -> npt.NDArray[np.intp]:
    """Return where the `count` largest values are, the largest first."""
    found = np.argpartition(values, -count)[-count:]
    return found[np.argsort(-values[found])]


def _session(model: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    # The next level is for convolutions in other layouts: it loads for 0.25 s longer and decodes no faster.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    # The arena keeps 150 MB after one long utterance, and saves no time once ...
    options.enable_cpu_mem_arena = False
    # ... weights are dequantized at loading and not for every token, for 80 MB and in a third of the time.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
