"""The file of faults: what it may say, every sentence about what it may not, and how it is summed up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest
from msgspec.structs import FieldInfo
from msgspec.structs import fields as struct_fields

from antiphon.engine.faults import ScriptError
from antiphon.engine.faults.kinds import KINDS, AnswerAudio, Fault, Lasting, Late, Moment, Mute, Range, Timed
from antiphon.engine.faults.script import Script, describe, parse, read
from antiphon.engine.faults.summary import line, lines

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "howto" / "faults.md"
REQUIRED = {
    "late": 'messages = "audio"\nby_s = 1',
    "lost": 'messages = "audio"',
    "expire_handles": "lifetime_s = 5",
    "hold_handles": "for_s = 5",
    "cancel_tool": "cancel_s = 1",
    "slow_reads": "speed = 1",
    "answer_audio": "chunk_ms = 20",
    "max_streams": "streams = 1",
}
"""What makes the least of each kind that needs more than its name."""


def fault(kind: str, *keys: str) -> str:
    return "\n".join(("[[fault]]", f'kind = "{kind}"', *keys))


def refused(text: str) -> str:
    with pytest.raises(ScriptError) as caught:
        parse(text, "f.toml")
    return str(caught.value)


def test_a_file_is_read_in_its_order(tmp_path: Path) -> None:
    path = tmp_path / "f.toml"
    path.write_text(
        "seed = 7\n"
        + fault(
            "mute", "connections = [1, 3]", 'at = "turn_complete"', "nth = 2", "after_s = 1", "for_s = 4.5"
        )
        + "\n"
        + fault(
            "late", 'messages = ["turn_complete", "handle"]', "by_s = 2", "times = 1", "probability = 0.5"
        )
        + "\n"
        + fault("answer_audio", 'speed = "burst"', "connections = {from = 2, to = 8, every = 3}")
    )
    assert read(path) == Script(
        str(path),
        (
            Mute(connections=(1, 3), at="turn_complete", nth=2, after_s=1.0, for_s=4.5),
            Late(messages=("turn_complete", "handle"), by_s=2.0, times=1, probability=0.5),
            AnswerAudio(speed="burst", connections=Range(2, 8, 3)),
        ),
        7,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_needs_little(kind: str) -> None:
    script = parse(fault(kind, REQUIRED.get(kind, "")), "f.toml")
    assert script.seed == 0
    assert [one.kind for one in script.faults] == [kind]
    assert line(script.faults[0]).startswith(f"{kind}: every connection")


@pytest.mark.parametrize(
    ("connections", "numbers"),
    [
        ('"all"', [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ("[1, 3]", [1, 3]),
        ("{from = 7}", [7, 8, 9]),
        ("{to = 2}", [1, 2]),
        ("{every = 3}", [3, 6, 9]),
        ("{from = 2, every = 3}", [2, 5, 8]),
        ("{from = 2, to = 5, every = 3}", [2, 5]),
        ("{every = 4, to = 7}", [4]),
    ],
)
def test_connections_are_selected(connections: str, numbers: list[int]) -> None:
    (mute,) = parse(fault("mute", f"connections = {connections}"), "f.toml").faults
    assert [number for number in range(1, 10) if mute.is_for(number)] == numbers


# ---- what cannot be


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "f.toml: there is no fault in it; begin each with [[fault]]."),
        ("seeds = 1", "f.toml: there is no key 'seeds'; did you mean seed?"),
        ("when = 1", "f.toml: there is no key 'when'; there are seed, fault."),
        ("seed = 1.5", "f.toml: seed cannot be 1.5: Expected `int`."),
        ("seed = true", "f.toml: seed cannot be True: Expected `int`."),
        ("fault = 1", "f.toml: fault must be a list of tables; begin each with [[fault]]."),
        ("fault = [1]", "f.toml: fault must be a list of tables; begin each with [[fault]]."),
        ('[fault]\nkind = "mute"', "f.toml: fault must be a list of tables; begin each with [[fault]]."),
        ("[[fault]]", "f.toml, fault 1: kind is missing; it is one of go_away, mute, end, refuse_handle, "),
        (fault("mut"), "f.toml, fault 1: there is no kind 'mut'; did you mean mute?"),
        ("[[fault]]\nkind = 5", "f.toml, fault 1: there is no kind 5; there are go_away, mute, "),
        (
            fault("mute") + "\n" + fault("end", "aftr_s = 1"),
            "f.toml, fault 2 (end): there is no key 'aftr_s'; did you mean after_s?",
        ),
        (
            fault("refuse_handle", "after_s = 1"),
            "f.toml, fault 1 (refuse_handle): there is no key 'after_s'; there are connections, probability, "
            "times, status, details, retry_s.",
        ),
        (
            fault("late", 'messages = "audio"'),
            "f.toml, fault 1 (late): by_s is missing; it is seconds that they are late.",
        ),
        (
            fault("end", 'after_s = "soon"'),
            "f.toml, fault 1 (end): after_s cannot be 'soon': Expected `float`, got `str` "
            "(seconds after the moment).",
        ),
        (fault("end", "after_s = -1"), "after_s cannot be -1: Expected `float` >= 0.0"),
        (fault("end", "after_s = nan"), "after_s cannot be nan: Expected `float`"),
        (fault("mute", "for_s = inf"), "for_s cannot be inf: Expected `float` <= 1000000.0"),
        (fault("mute", "for_s = 0"), "for_s cannot be 0: Expected `float` > 0.0"),
        (fault("mute", "reads = 1"), "reads cannot be 1: Expected `bool`, got `int`"),
        (fault("mute", "times = 0"), "times cannot be 0: Expected `int` >= 1"),
        (fault("mute", "probability = 1.5"), "probability cannot be 1.5: Expected `float` <= 1.0"),
        (fault("mute", "probability = 0"), "probability cannot be 0: Expected `float` > 0.0"),
        (fault("end", 'status = "UNVAILABLE"'), "status cannot be 'UNVAILABLE'; did you mean UNAVAILABLE?"),
        (
            fault("end", 'status = "unavailable"'),
            "status cannot be 'unavailable'; there are OK, CANCELLED, UNKNOWN, ",
        ),
        (fault("end", 'at = "setuped"'), "at cannot be 'setuped'; did you mean setup?"),
        (fault("go_away", 'then = "nevr"'), "then cannot be 'nevr'; did you mean never?"),
        (fault("end", 'at = "answer"', 'nth = "eech"'), "nth cannot be 'eech'; did you mean each?"),
        (
            fault("lost", 'messages = ["audio", "tool_cal"]'),
            "messages cannot be 'tool_cal'; did you mean tool_call?",
        ),
        (fault("lost", "messages = []"), "messages cannot be []: Expected `array` of length >= 1"),
        (fault("lost", "messages = [1]"), "messages cannot be [1]: Expected `str`, got `int`"),
        (fault("mute", 'connections = "al"'), "connections cannot be 'al'; did you mean all?"),
        (fault("mute", "connections = [0]"), "connections cannot be [0]: Expected `int` >= 1"),
        (
            fault("mute", "connections = {form = 2}"),
            "connections cannot be {'form': 2}: Object contains unknown field `form` "
            '("all", a list of numbers, or a table of from, to and every; the first is 1).',
        ),
        (fault("mute", "connections = {from = 3, to = 2}"), "it names no connection"),
        (fault("mute", "connections = {every = 3, to = 2}"), "it names no connection"),
        (
            fault("end", 'at = "audio"'),
            'f.toml, fault 1 (end): audio_s and at = "audio" belong together.',
        ),
        (fault("end", "audio_s = 1"), 'audio_s and at = "audio" belong together.'),
        (fault("end", "answer_ms = 1"), 'answer_ms needs at = "answer".'),
        (fault("end", "nth = 2"), 'at = "ready" is a moment that comes once; leave nth out.'),
        (fault("mute", 'at = "start"', 'nth = "each"'), 'at = "start" is a moment that comes once'),
        (fault("go_away", 'at = "go_away"'), 'a GoAway cannot begin at = "go_away".'),
        (fault("end", 'status = "OK"', 'details = "x"'), "the status OK goes without details and retry_s."),
        (fault("end", 'status = "OK"', "retry_s = 1"), "the status OK goes without details and retry_s."),
        (fault("slow_reads"), "f.toml, fault 1 (slow_reads): speed or message_ms is needed."),
        (fault("answer_audio"), "f.toml, fault 1 (answer_audio): speed or chunk_ms is needed."),
        (fault("answer_audio", 'speed = "brst"'), "speed cannot be 'brst'; did you mean burst?"),
        (fault("answer_audio", "chunk_ms = 0"), "chunk_ms cannot be 0: Expected `int` >= 1"),
        (fault("max_streams"), "streams is missing; it is connections at once."),
        (
            fault("max_streams", "streams = 1", 'excess = "hand"'),
            "excess cannot be 'hand'; did you mean hang?",
        ),
    ],
)
def test_what_cannot_be_is_a_sentence(text: str, sentence: str) -> None:
    said = refused(text)
    assert said.startswith("f.toml")
    assert sentence in said
    assert said.endswith((".", "?"))


def test_what_is_no_toml_is_a_sentence(tmp_path: Path) -> None:
    assert refused("[[fault").startswith("The faults file f.toml is not valid TOML: ")
    with pytest.raises(ScriptError, match=r"The faults file .*none\.toml cannot be read: No such file"):
        read(tmp_path / "none.toml")
    (tmp_path / "f.toml").write_bytes(b"\xff")
    with pytest.raises(ScriptError, match="is not valid TOML: 'utf-8' codec"):
        read(tmp_path / "f.toml")


# ---- the summary


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            fault("go_away"),
            "go_away: every connection, at the set-up's acknowledgement: GoAway with 10 s left, then ABORTED",
        ),
        (
            fault("go_away", "connections = [2]", "after_s = 1.5", 'then = "never"', "times = 1"),
            "go_away: connection 2, 1.5 s after the set-up's acknowledgement: GoAway with 10 s left, and "
            "no end (once in all)",
        ),
        (
            fault("end", "connections = [1, 4]", 'at = "audio"', "audio_s = 2", 'status = "INTERNAL"'),
            "end: connections 1, 4, after 2 s of the client's audio: the end with INTERNAL",
        ),
        (
            fault(
                "end",
                'at = "answer"',
                "nth = 2",
                "answer_ms = 300",
                'details = "x"',
                "retry_s = 3",
                "times = 2",
            ),
            "end: every connection, the 2. time at the answer, 300 ms into it: the end with UNAVAILABLE, "
            "to be tried again in 3 s: x (2 times in all)",
        ),
        (
            fault("mute", "connections = {every = 3}", 'at = "answer"', 'nth = "each"', "for_s = 2"),
            "mute: each 3. connection, each time at the answer, for 2 s: nothing is sent",
        ),
        (
            fault("mute", "connections = {from = 2}", "reads = false", "probability = 0.25"),
            "mute: connections from 2 on, at the set-up's acknowledgement: nothing is sent nor read "
            "(probability 0.25)",
        ),
        (
            fault("refuse_handle", "connections = {from = 2, to = 9, every = 2}"),
            "refuse_handle: connections from 2 to 9, each 2.: a set-up with a handle is refused with "
            "NOT_FOUND",
        ),
        (
            fault("expire_handles", "lifetime_s = 5", "connections = {every = 1}"),
            "expire_handles: every connection: a handle older than 5 s is refused with NOT_FOUND",
        ),
        (
            fault("hold_handles", "for_s = 5"),
            "hold_handles: every connection: a handle is refused with FAILED_PRECONDITION while its "
            "connection is open and for 5 s after",
        ),
        (fault("no_handles"), "no_handles: every connection: no handles"),
        (
            fault("no_handles", "until_turn = 2"),
            "no_handles: every connection: no handles until 2 answers are complete",
        ),
        (
            fault("late", 'messages = ["audio", "handle"]', "by_s = 0.5"),
            "late: every connection: audio and handle late by 0.5 s",
        ),
        (fault("lost", 'messages = "audio"'), "lost: every connection: audio not sent"),
        (fault("twice"), "twice: every connection: tool_call twice"),
        (fault("twice", "by_s = 2"), "twice: every connection: tool_call twice, 2 s apart"),
        (
            fault("stuck_tool", 'at = "turn_complete"'),
            "stuck_tool: every connection, at turn_complete: the result is ignored, and the answer never "
            "goes on",
        ),
        (
            fault("cancel_tool", "cancel_s = 2"),
            "cancel_tool: every connection: the call is taken back after 2 s",
        ),
        (
            fault("slow_reads", "speed = 0.5", "message_ms = 200"),
            "slow_reads: every connection: audio is read at 0.5 times real time, a message is read "
            "each 200 ms",
        ),
        (
            fault("answer_audio", "speed = 1.5", "chunk_ms = 20"),
            "answer_audio: every connection: answers are sent at 1.5 times real time, 20 ms a message",
        ),
        (
            fault("answer_audio", 'speed = "burst"'),
            "answer_audio: every connection: answers are sent in one burst",
        ),
        (
            fault("answer_audio", "chunk_ms = 5"),
            "answer_audio: every connection: answers are sent as they are made, 5 ms a message",
        ),
        (
            fault("max_streams", "streams = 2"),
            "max_streams: every connection: a connection beyond 2 at once hangs unread",
        ),
        (
            fault("max_streams", "streams = 2", 'excess = "refuse"', "retry_s = 1"),
            "max_streams: every connection: a connection beyond 2 at once is refused with "
            "RESOURCE_EXHAUSTED, to be tried again in 1 s",
        ),
    ],
)
def test_a_fault_is_summed_up_in_a_line(text: str, said: str) -> None:
    (one,) = parse(text, "f.toml").faults
    assert line(one) == said


def test_a_script_is_summed_up() -> None:
    script = parse("seed = 3\n" + fault("twice") + "\n" + fault("no_handles"), "f.toml")
    assert list(lines(script)) == [
        "faults of f.toml (seed 3):",
        "  1  twice: every connection: tool_call twice",
        "  2  no_handles: every connection: no handles",
    ]


@pytest.mark.parametrize("moment", get_args(Moment))
def test_each_moment_is_summed_up(moment: Moment) -> None:
    (mute,) = parse(
        fault("mute", f'at = "{moment}"', "after_s = 2", "audio_s = 1" if moment == "audio" else ""), "f.toml"
    ).faults
    assert line(mute).startswith("mute: every connection, 2 s after ")


# ---- the guide


def test_the_guide_tells_of_every_key() -> None:
    guide = GUIDE.read_text()
    for row in reference():
        assert row in guide, f"the guide lacks the row:\n{row}"


def reference() -> list[str]:
    """Return the rows of the guide's tables: what kinds have in common, and what each has of its own."""
    common = {field.name: field for struct in (Fault, Timed, Lasting) for field in struct_fields(struct)}
    rows = [_row(field) for field in common.values()]
    for kind, struct in KINDS.items():
        begins = [f"`{field.default}`" for field in struct_fields(struct) if field.name == "at"]
        rows.append(f"| **`{kind}`** | {''.join(begins)} | {(struct.__doc__ or '').strip()} |")
        inherited = {field.name for base in struct.__bases__ for field in struct_fields(base)}
        rows += [_row(field) for field in struct_fields(struct) if field.name not in inherited]
    return rows


def _row(field: FieldInfo) -> str:
    if field.required:
        default = "needed"
    elif field.name == "at":
        default = "see below"
    else:
        default = "" if field.default is None else f"`{json.dumps(field.default).removesuffix('.0')}`"
    return f"| `{field.name}` | {default} | {describe(field)} |"


def test_what_the_guide_and_the_example_show_is_right() -> None:
    blocks = GUIDE.read_text().split("```toml\n")[1:]
    assert len(blocks) >= 6
    for number, block in enumerate(blocks):
        assert parse(block.partition("```")[0], f"block {number}").faults
    assert read(ROOT / "examples" / "faults.toml").faults
