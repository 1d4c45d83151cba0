"""Whatever comes in whatever order, a session goes on: the next thing that is asked is answered.

So it does when the client is lost and comes back, when the connection to the model is lost, and when the node
is; and the client has every message once, in order.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.errors import GatewayError
from antiphon.session import State
from tries import tries
from unit.scene import ABSENCES, BASE, DEATHS, EXTENDED, LIMITS, LOSSES, Scene, Step


@pytest.mark.slow
@settings(max_examples=tries(1000), deadline=None)
@given(st.lists(st.sampled_from(EXTENDED), min_size=10, max_size=80))
def test_no_interleaving_wedges_a_session(steps: list[Step]) -> None:
    scene = Scene(is_extended=True)
    for step in steps:
        step(scene)
    scene.prove_alive()


@settings(max_examples=tries(100), deadline=None)
@given(st.lists(st.sampled_from(BASE), max_size=60))
def test_nor_one_of_a_base_client(steps: list[Step]) -> None:
    scene = Scene(is_extended=False)
    for step in steps:
        step(scene)
    scene.prove_alive()


@settings(max_examples=tries(200), deadline=None)
@given(st.lists(st.sampled_from(EXTENDED), max_size=40), st.lists(st.sampled_from(EXTENDED), max_size=10))
def test_a_client_that_is_gone_leaves_nothing(steps: list[Step], more: list[Step]) -> None:
    scene = Scene(is_extended=True)
    for step in steps:
        step(scene)
    scene.perform(scene.session.disconnected(scene.now))
    told = len(scene.got)
    scene.pour()
    assert not (scene.model and scene.model.active), "the button is still pressed"
    for step in more:
        step(scene)
    assert scene.session.failed(GatewayError("UPSTREAM_LOST"), scene.now) == []  # type: ignore[arg-type]
    assert len(scene.got) == told
    assert scene.session.state is State.CLOSED
    assert scene.session.deadline() is None


@settings(max_examples=tries(200), deadline=None)
@given(st.lists(st.sampled_from(BASE), max_size=60))
def test_a_base_client_is_told_what_an_extended_one_is_told_less_the_extensions(
    steps: list[Step],
) -> None:
    told = []
    for is_extended in (False, True):
        scene = Scene(is_extended=is_extended)
        for step in steps:
            step(scene)
            scene.open()
        base = ("auth_success", "recognition_result", "audio_response", "error")
        told.append([m for m in scene.got if m["type"] in base])
    assert told[0] == told[1]


@settings(max_examples=tries(200), deadline=None)
@given(st.lists(st.sampled_from(EXTENDED), max_size=40), st.lists(st.sampled_from(EXTENDED), max_size=10))
def test_one_that_does_not_come_back_leaves_nothing(steps: list[Step], more: list[Step]) -> None:
    scene = Scene(is_extended=True, resumable=True)
    for step in steps:
        step(scene)
    scene.cut()
    told = len(scene.got)
    for step in more:
        step(scene)
    states = [scene.session.state]
    scene.wait(LIMITS.resume_s)
    assert State.CLOSED not in states
    assert scene.session.state is State.CLOSED
    assert scene.session.deadline() is None
    assert (scene.model, scene.opening) == (None, None)
    assert len(scene.got) == told


@pytest.mark.slow
@settings(max_examples=tries(150), deadline=None)
@given(st.lists(st.sampled_from(EXTENDED + LOSSES), min_size=10, max_size=80))
def test_a_model_that_is_lost_ends_no_conversation(steps: list[Step]) -> None:
    scene = Scene(is_extended=True)
    for step in steps:
        step(scene)
    scene.prove_alive()
    assert scene.closed == []


@settings(max_examples=tries(200), deadline=None)
@given(st.lists(st.sampled_from(BASE + LOSSES), max_size=60))
def test_a_base_client_is_not_told_of_it(steps: list[Step]) -> None:
    scene = Scene(is_extended=False)
    for step in steps:
        step(scene)
    scene.prove_alive()
    assert scene.closed == []


@pytest.mark.slow
@settings(max_examples=tries(150), deadline=None)
@given(st.lists(st.sampled_from(EXTENDED + LOSSES + ABSENCES), min_size=10, max_size=80))
def test_a_client_that_comes_back_has_missed_nothing(steps: list[Step]) -> None:
    scene = Scene(is_extended=True, resumable=True)
    for step in steps:
        step(scene)
    scene.prove_alive()
    assert set(scene.closed) <= {4413}


@pytest.mark.slow
@settings(max_examples=tries(150), deadline=None)
@given(st.lists(st.sampled_from(EXTENDED + LOSSES + ABSENCES + DEATHS), min_size=10, max_size=80))
def test_a_node_that_is_lost_takes_nothing_along(steps: list[Step]) -> None:
    scene = Scene(is_extended=True, resumable=True, saved=True)
    for step in steps:
        step(scene)
    scene.prove_alive()
    assert set(scene.closed) <= {4413}
