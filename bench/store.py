"""What a save of sessions costs, against a real Valkey server of the test tools on this machine.

    python -m bench.store [--rounds N]

Each session saves what 50 ms of a conversation change: its state, an entry of one log and two of another,
while as many leave. That is one call of the store, and one round trip, for all sessions together.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Final

import psutil

from antiphon import event_loop
from antiphon.store import Change, Log, Verdict
from antiphon.valkey_store import ValkeyStore
from bench import machine
from bench.latency import busy_s, quantiles_ms

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from valkey_server import ValkeyServer

STATE: Final = os.urandom(2_000)
HEARD: Final = os.urandom(3_200)
"""100 ms of what the user says."""
SAID: Final = os.urandom(6_400)
"""A message to the client."""
KEPT: Final = (300, 20)
"""Entries in the two logs."""
SESSIONS: Final = (1, 10, 100)
TIMEOUT_S: Final = 5.0
"""What takes longer than the store's own is to be seen, too."""


async def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=300)
    args = parser.parse_args()
    print(f"{machine.describe()}\n")
    print("| sessions in a save | p50, ms | p95 | p99 | max | this process, ms of CPU | the server |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    with ValkeyServer() as server:
        store = ValkeyStore(server.url, timeout_s=TIMEOUT_S)
        assert server.pid
        here, there = psutil.Process(), psutil.Process(server.pid)
        for sessions in SESSIONS:
            await save(store, sessions, 0)
            cpu_ms = [-busy_s(process) * 1000 for process in (here, there)]
            waits = [await save(store, sessions, number) for number in range(1, args.rounds + 1)]
            cpu_ms = [
                (before + busy_s(process) * 1000) / args.rounds
                for before, process in zip(cpu_ms, (here, there), strict=True)
            ]
            print(f"| {sessions} | {' | '.join(f'{value:.2f}' for value in quantiles_ms(waits) + cpu_ms)} |")
        waits = []
        for number in range(100):
            began = time.perf_counter()
            await store.claim(f"s{number}", "user", "digest", "b", 0)
            waits.append(time.perf_counter() - began)
        heard, said = KEPT
        print(f"\nA claim (a record of {(heard * len(HEARD) + said * len(SAID)) / 1e6:.1f} MB): ", end="")
        print("p50 {:.1f} ms, p95 {:.1f}, p99 {:.1f}, max {:.1f}".format(*quantiles_ms(waits)))
        await store.aclose()
    return 0


async def save(store: ValkeyStore, sessions: int, number: int) -> float:
    """Save sessions, whole at first; return the seconds it took."""
    heard, said = KEPT
    if number:
        logs = (
            Log(number, heard, (HEARD,)),
            Log(2 * number, said, (SAID, SAID)),
            Log(0, 0),
        )
    else:
        logs = (
            Log(0, heard, (HEARD,) * heard, whole=True),
            Log(0, said, (SAID,) * said, whole=True),
            Log(0, 0, whole=True),
        )
    changes = [Change(f"s{place}", "user", 1, ("digest",), STATE, logs) for place in range(sessions)]
    began = time.perf_counter()
    verdicts = await store.save(changes, "a", 0)
    took_s = time.perf_counter() - began
    assert verdicts == [Verdict.SAVED] * sessions
    return took_s


if __name__ == "__main__":
    sys.exit(event_loop.run(main()))
