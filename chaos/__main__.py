"""Break everything that can break, and see whether anything is lost.

python -m chaos [--short] [--seed N] [--duration S] [--faults N] [--sessions N] [--report FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import time
from pathlib import Path

from antiphon import event_loop
from chaos import scenes
from chaos.plan import Plan
from chaos.verdict import Row, report, table
from chaos.world import running_world


def main() -> int:
    parser = argparse.ArgumentParser(prog="chaos", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--short", action="store_true", help="about 80 s in all")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--duration", type=float, help="seconds of faults at random times")
    parser.add_argument("--faults", type=int, help="how many of them")
    parser.add_argument("--sessions", type=int, help="conversations meanwhile")
    parser.add_argument("--only", default="", help="kinds of faults, separated by commas")
    parser.add_argument("--scenes", default="", help="which parts: " + ", ".join(scenes.ALL))
    parser.add_argument("--report", type=Path, help="JSON file")
    parser.add_argument(
        "--ignore-times",
        action="store_true",
        help="print what depends on the machine's speed, do not judge it",
    )
    parser.add_argument("--keep", type=Path, help="folder for logs and what was heard")
    args = parser.parse_args()
    plan = scenes.SHORT if args.short else scenes.FULL
    plan = Plan(
        seed=args.seed,
        duration_s=args.duration or plan.duration_s,
        faults=args.faults or plan.faults,
        sessions=args.sessions or plan.sessions,
        times=plan.times,
        memory_s=plan.memory_s,
        only=tuple(name for name in args.only.split(",") if name),
        scenes=tuple(name for name in args.scenes.split(",") if name) or tuple(scenes.ALL),
    )
    print(
        f"seed {plan.seed}: {plan.faults} faults in {plan.duration_s:g} s, {plan.sessions} sessions",
        flush=True,
    )
    if args.keep:
        try:
            args.keep.mkdir(parents=True)
        except OSError as error:
            parser.error(f"--keep: {args.keep} cannot be made: {error.strerror}.")
    began = time.monotonic()
    rows, more = event_loop.run(run(plan, args.keep))
    took_s = time.monotonic() - began
    print(f"\n{table(rows)}\n\nseed {plan.seed}, {took_s:.0f} s", flush=True)
    if args.report:
        report(args.report, rows, seed=plan.seed, took_s=took_s, **more)
    judged = [row for row in rows if not (args.ignore_times and row.is_timed)]
    return 0 if all(row.passed for row in judged) else 1


async def run(plan: Plan, keep: Path | None) -> tuple[list[Row], dict[str, object]]:
    more: dict[str, object] = {}
    async with running_world(plan.seed, keep) as world, asyncio.TaskGroup() as tasks:
        running: dict[str, asyncio.Task[list[Row]]] = {}
        for name, scene in scenes.ALL.items():
            if name not in plan.scenes:
                continue
            running[name] = tasks.create_task(scene(world, plan, more))
            if name != "memory":  # which has a node of its own, and little to do
                await asyncio.wait([running[name]])
    return [row for task in running.values() for row in task.result()], more


if __name__ == "__main__":
    sys.exit(main())
