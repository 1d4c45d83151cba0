"""The store away and a node lost: the client knows what the model has heard, and the next node asks it."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from antiphon import extension, live, messages
from antiphon.session import Session, State
from antiphon.session.presence import digest
from antiphon.session.uplink import IN_FLIGHT_S
from unit.test_session_resume import NOW, moved, ready
from unit.test_session_v1 import one, sent, start

MS = 32
"""Bytes."""
TRACK = random.Random(4).randbytes(12_000 * MS)


def sound(number: int) -> bytes:
    """Return the `number`th 100 ms."""
    return TRACK[number * 100 * MS : (number + 1) * 100 * MS]


class Talk:
    """A client that keeps all it says, and models that hear it from one node after the other."""

    def __init__(self) -> None:
        self.session = ready()
        self.session.saved_elsewhere = True
        self.said: list[messages.AudioChunk | extension.AudioStreamStart | messages.AudioStreamEnd] = []
        self.heard_ms = 0.0
        self.models: list[bytes] = []
        self.replayed_ms = 0.0
        self.say(start())

    def say(self, message: messages.AudioChunk | extension.AudioStreamStart) -> None:
        self.said.append(message)
        self.session.receive(message, NOW)

    def speak(self, chunks: int = 1) -> None:
        for _ in range(chunks):
            number = len(self.said) - 1
            self.say(messages.AudioChunk(timestamp=0, data=sound(number), sequence=number))

    def open(self) -> None:
        if self.session.state is not State.OPENING:
            return  # nothing is to be said yet
        self.models.append(b"")
        for message in sent(self.session.opened(NOW)):
            if isinstance(message, extension.SessionRotated):
                self.replayed_ms = message.replayed_audio_ms

    def give(self) -> None:
        while item := self.session.next_input(NOW):
            assert isinstance(item, live.Audio)
            self.models[-1] += item.pcm

    def arrive(self) -> None:
        for message in sent(self.session.arrived(self.session.given, NOW)):
            assert isinstance(message, extension.AudioHeard)
            self.heard_ms = message.heard_ms

    def move(self, saved: Session) -> None:
        """Go on where the node was that saved this; all that the client has said since comes again."""
        self.session = moved(saved)
        self.session.saved_elsewhere = True
        resumed = one(
            self.session.attach(
                10**6, NOW + 36_000, "r2", digest("r1"), NOW, self.heard_ms
            ),  # more than the node knows to have sent
            extension.Resumed,
        )
        for message in self.said[resumed.received :]:
            self.session.receive(message, NOW)

    @property
    def overlap_ms(self) -> float:
        """How much the last model heard that those before had heard already."""
        *before, last = self.models
        if not before or not last:
            return 0.0
        end = max(self._end(pcm) for pcm in before)
        return (end - self._begin(last)) / MS

    def _begin(self, pcm: bytes) -> int:
        return TRACK.index(pcm[:16])

    def _end(self, pcm: bytes) -> int:
        """Return the place behind what a model has heard, which had no hole."""
        begin = self._begin(pcm) if pcm else 0
        assert pcm == TRACK[begin : begin + len(pcm)]
        return begin + len(pcm)


def talking() -> tuple[Talk, Session]:
    """Return a talk whose node has given 1 s to the model, and the session as it was saved then."""
    talk = Talk()
    talk.speak()
    talk.open()
    for _ in range(10):
        talk.give()
        talk.arrive()
        talk.speak()
    saved = moved(talk.session)
    talk.session.unsaved = True
    return talk, saved


def test_the_client_is_told_what_the_model_has_heard_while_nothing_can_be_saved() -> None:
    talk = Talk()
    talk.speak(2)
    talk.open()
    talk.give()
    talk.arrive()
    assert talk.heard_ms == 0, "it is acknowledged when it is saved"
    talk.session.unsaved = True
    talk.speak(2)
    talk.give()
    talk.arrive()
    assert talk.heard_ms == 400
    talk.heard_ms = 0
    talk.arrive()
    assert talk.heard_ms == 0, "nothing more has arrived"
    talk.speak()
    talk.give()
    talk.session.disconnected(NOW)
    talk.arrive()
    assert talk.heard_ms == 0, "nobody is there to be told"


def test_another_node_does_not_say_it_again() -> None:
    talk, saved = talking()
    for _ in range(30):
        talk.speak()
        talk.give()
        talk.arrive()
    talk.speak()
    talk.give()  # on its way when the node is lost
    talk.move(saved)
    talk.open()
    talk.give()
    assert talk.overlap_ms == 200, "what was on its way, and the margin"
    assert talk.replayed_ms >= 200
    assert talk.replayed_ms <= 100 + 1000 * IN_FLIGHT_S


def test_what_was_not_told_is_said_again() -> None:
    talk, saved = talking()
    for _ in range(20):
        talk.speak()
        talk.give()
        talk.arrive()
    talk.heard_ms = 0
    talk.move(saved)
    talk.open()
    for _ in range(40):
        talk.give()
        talk.arrive()
    assert talk.overlap_ms >= 2000


def test_a_client_that_says_something_else_is_heard() -> None:
    talk, saved = talking()
    for _ in range(30):
        talk.speak()
        talk.give()
        talk.arrive()
    said, talk.said = talk.said, talk.said[:12]
    talk.move(saved)
    # One chunk is gone, so nobody knows any more which part the model has heard.
    for message in said[13:]:
        talk.session.receive(message, NOW)
    talk.open()
    for _ in range(40):
        talk.give()
        talk.arrive()
    given = talk.models[-1]
    assert given.endswith(sound(len(said) - 2))
    assert sound(12) in given


def test_a_node_that_knows_for_itself_takes_nobodys_word() -> None:
    talk, _ = talking()
    talk.session.disconnected(NOW)
    talk.session.attach(10**6, NOW + 36_000, "r2", digest("r1"), NOW, 10**9)
    talk.speak()
    before = len(talk.models[-1])
    talk.give()
    assert len(talk.models[-1]) > before


def test_places_in_the_audio_stay_those_of_the_client() -> None:
    talk, saved = talking()
    for _ in range(30):
        talk.speak()
        talk.give()
        talk.arrive()
    said, talk.said = talk.said, []
    talk.move(saved)
    for message in said[12:14]:
        talk.session.receive(message, NOW)
    talk.open()
    for message in said[14:]:
        talk.session.receive(message, NOW)
    talk.give()
    begin_ms = talk._begin(talk.models[-1]) / MS
    effects = talk.session.upstream(live.VoiceActivity(started=True, at_ms=50.0), NOW)
    (started,) = [m for m in sent(effects) if isinstance(m, extension.SpeechStarted)]
    assert started.stream_ms == begin_ms + 50


steps = st.lists(st.sampled_from(["speak", "give", "arrive"]), max_size=40)


@given(steps, steps, st.booleans())
def test_no_model_hears_a_hole_and_none_hears_much_again(
    before: list[str], after: list[str], opens_first: bool
) -> None:
    talk = Talk()
    talk.speak()
    talk.open()
    for step in before:
        getattr(talk, step)()
    saved = moved(talk.session)
    talk.session.unsaved = True
    for step in after:
        getattr(talk, step)()
    talk.arrive()
    talk.speak()
    talk.give()
    if opens_first:
        said, talk.said = talk.said, []
        talk.move(saved)
        talk.open()
        talk.give()
        for message in said[saved_count(saved) :]:
            talk.session.receive(message, NOW)
        talk.said = said
    else:
        talk.move(saved)
    talk.open()
    for _ in range(100):
        talk.give()
        talk.arrive()
    assert talk._end(talk.models[-1]) == MS * 100 * (len(talk.said) - 1), "all of it is heard"
    assert talk.overlap_ms <= 1000


def saved_count(session: Session) -> int:
    return session._presence.received
