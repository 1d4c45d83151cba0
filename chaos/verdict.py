"""The acceptance table: what was measured, against what must hold.

What counts as lost: a sample whose chunk was acknowledged (`audio_ack`, of it or of a later one) and which no
stream of the model ever heard. It is *announced*, and then counted apart, where the gateway said so: as
`lostAudioMs` of a `session_rotated` of that session, or because the session could not go on
(`SESSION_RESUME_REFUSED`, after store and node were lost at once). Everything else is a failure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, field

from chaos import record
from chaos.diary import Diary
from chaos.hearing import Found, Heard, examine, hear
from chaos.track import RATE_HZ, Track


class Row(Struct):
    """A line of the table."""

    what: str
    goal: str
    measured: str
    passed: bool
    notes: list[str] = field(default_factory=list)
    is_timed: bool = False
    """Whether it depends on how fast the machine is, and not on counts alone."""


class Audio(Struct):
    """What became of the audio of many conversations."""

    found: list[tuple[int, Found]] = field(default_factory=list)
    streams: dict[int, list[Heard]] = field(default_factory=dict)
    announced_sessions: int = 0
    announced_lost: int = 0

    @property
    def acked(self) -> int:
        return sum(found.acked for _, found in self.found)

    def total(self, of: Callable[[Found], int]) -> int:
        return sum(of(found) for _, found in self.found)

    def replays_ms(self, *, mute: bool) -> list[float]:
        """Return what was heard again, where the model before was mute, or where it was not."""
        return [
            replay.samples / 16
            for _, found in self.found
            for replay in found.replays
            if mute is (replay.reason == "mute")
        ]

    @property
    def unsaved_ms(self) -> list[float]:
        """Return how much of that no node had saved: store and node were away at once."""
        replays = (replay for _, found in self.found for replay in found.replays)
        return [replay.unsaved / 16 for replay in replays if replay.unsaved]


def listen(folder: Path, clients: Sequence[tuple[Diary, Track]]) -> Audio:
    """Read what the model heard, and compare it with what the clients were told."""
    audio = Audio()
    tracks = [track for _, track in clients]
    for entries in record.read_all(folder):
        track, heard = hear(entries, tracks)
        if track:
            audio.streams.setdefault(track.number, []).append(heard)
            tracks.remove(track)
            tracks.insert(0, track)  # the next stream is often of the same
    for diary, track in clients:
        streams = audio.streams.get(track.number, [])
        for place, epoch in enumerate(diary.epochs):
            following = diary.epochs[place + 1].begin if place + 1 < len(diary.epochs) else float("inf")
            of_epoch = [heard for heard in streams if epoch.begin <= heard.begin < following]
            found = examine(diary, epoch, of_epoch)
            if epoch.ended:
                audio.announced_sessions += 1
                audio.announced_lost += found.lost
                found.lost, found.commands_lost, found.unannounced_replay = 0, [], 0
            audio.found.append((diary.client, found))
    return audio


def audio_rows(audio: Audio, faults: int) -> list[Row]:
    """Return the rows about audio on its way to the model."""
    lost = audio.total(lambda found: max(0, found.lost - found.announced))
    doubled = audio.total(lambda found: found.doubled)
    disordered = audio.total(lambda found: found.skipped) + audio.total(lambda found: found.foreign)
    notes = [
        f"client {client}: of {found.acked} acknowledged samples {found.lost} lost (announced "
        f"{found.announced}) at {found.lost_places[:5]}, {found.doubled} doubled, {found.skipped} left out "
        f"on a stream, {found.foreign} foreign"
        for client, found in audio.found
        if max(0, found.lost - found.announced) or found.doubled or found.skipped or found.foreign
    ]
    commands = [command for _, found in audio.found for command in found.commands_lost]
    if commands:
        notes.append(f"typed turns that were lost: {commands}")
    if audio.announced_sessions:
        notes.append(
            f"announced: {audio.announced_sessions} sessions could not go on; "
            f"{audio.announced_lost} acknowledged samples of theirs were not heard"
        )
    announced = audio.total(lambda found: found.announced)
    if announced:
        notes.append(f"announced: {announced} samples as lostAudioMs")
    first = Row(
        "acknowledged audio lost or reordered on its way to the model; doubled between client and gateway",
        "0 samples",
        f"{lost} lost, {disordered} out of order, {doubled} doubled, {len(commands)} typed turns lost, of "
        f"{audio.acked / RATE_HZ:.0f} s acknowledged, over {faults} faults",
        not (lost or doubled or disordered or commands),
        notes,
    )
    replays_ms, mute_ms = audio.replays_ms(mute=False), audio.replays_ms(mute=True)
    worst = max(replays_ms, default=0)
    late = audio.total(lambda found: found.late)
    told = audio.total(lambda found: found.unannounced_replay)
    second = Row(
        "audio the model hears twice after a rotation",
        "at most 1 s each; told by replayedAudioMs",
        f"worst {worst:.0f} ms, {sum(replays_ms):.0f} ms over {len(replays_ms)} renewed connections; where "
        "the model was mute, and is told again all that it showed no reaction to, worst "
        f"{max(mute_ms, default=0):.0f} ms of {len(mute_ms)}; no node had saved "
        f"{max(audio.unsaved_ms, default=0):.0f} ms of it at worst, in {len(audio.unsaved_ms)}; "
        f"{round(told / 16)} ms more than was told; {round(late / 16)} ms came late to old streams",
        worst <= 1000,
        [
            f"client {client} at {replay.at:.3f}: {replay.reason}, {round(replay.samples / 16)} ms, of which "
            f"{round(replay.unsaved / 16)} ms could not be saved"
            for client, found in audio.found
            for replay in found.replays
            if replay.samples > RATE_HZ
        ],
        is_timed=True,
    )
    return [first, second]


def message_row(diaries: Sequence[Diary]) -> Row:
    """Return the row about messages on their way to the client."""
    faults = [fault for diary in diaries for fault in diary.faults]
    resumed = [resumed for diary in diaries for resumed in diary.resumed]
    lossy = sum(entry.lossy for entry in resumed)
    return Row(
        "server messages lost, doubled or reordered after resume",
        "0; announced as lossy apart",
        f"{len(faults)} of {sum(diary.messages for diary in diaries)}, over {len(resumed)} resumes that "
        f"replayed {sum(entry.replayed for entry in resumed)}; {lossy} lossy",
        not faults,
        [f"client {fault.client} at {fault.at:.3f}: {fault.what}" for fault in faults[:20]],
    )


def sums(counts: Sequence[dict[str, int]]) -> dict[str, int]:
    """Return the sum of each name's count."""
    names = sorted({name for of_one in counts for name in of_one})
    return {name: sum(of_one.get(name, 0) for of_one in counts) for name in names}


def table(rows: Sequence[Row]) -> str:
    """Return the table as Markdown, with what is to be known of failures below it."""
    lines = ["| what | must hold | measured | |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {row.what} | {row.goal} | {row.measured} | {'PASS' if row.passed else 'FAIL'} |" for row in rows
    ]
    lines += [f"  {row.what[:40]}: {note}" for row in rows for note in row.notes]
    return "\n".join(lines)


def report(path: Path, rows: Sequence[Row], **more: Any) -> None:
    """Write everything as JSON."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode({"rows": rows, **more}), indent=1))
