"""How much a core carries, side by side: Antiphon, a FastAPI bridge, a Node bridge, HAProxy.

    python -m bench.capacity [--rounds N] [--systems antiphon,fastapi]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys

import psutil

from antiphon import event_loop
from antiphon.load import Target, Voice
from antiphon.load.speech import noise
from bench import machine, measuring, systems


async def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sessions", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--systems", default=",".join(systems.SYSTEMS))
    args = parser.parse_args()
    cores = systems.Cores.of_this_machine()
    print(machine.describe())
    os.sched_setaffinity(0, cores.ours)
    voice = Voice(noise())
    async with systems.upstreams(cores, "number", 3200) as ports:
        options = systems.Options(cores, ports, os.environ.get("BENCH_PYTHON", sys.executable))
        model = next(each for each in psutil.Process().children() if "bench.upstreams" in each.cmdline())
        for number in range(args.rounds):
            for name in args.systems.split(","):
                async with systems.start(name, options) as running:
                    target = Target(running.url, running.token)
                    up = model.cpu_times()
                    cost = await measuring.cpu_cost(running, target, voice, args.sessions, args.seconds)
                    up2 = model.cpu_times()
                    m = cost.measured
                    print(
                        f"round {number + 1} {name}: {cost.system_us:.0f} us a chunk, generator {cost.generator_us:.0f}, "
                        f"upstream about {(up2.user + up2.system - up.user - up.system) / (m.due * (args.seconds + 2) / args.seconds) * 1e6:.0f}; "
                        f"{m.answered}/{m.due} answered, p50 {m.latency.percentile(0.5) * 1000:.2f}, "
                        f"p99 {m.latency.percentile(0.99) * 1000:.2f} ms, own p99 {m.lateness.percentile(0.99) * 1000:.2f} ms, errors {dict(m.errors)}",
                        flush=True,
                    )
    return 0


if __name__ == "__main__":
    sys.exit(event_loop.run(main()))
