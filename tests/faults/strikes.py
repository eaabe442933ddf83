"""A sum, in the middle of which the worker of a random item is hurt; its bits must be those of the sum without harm."""

import asyncio
import os
import signal
import time
from pathlib import Path

import numpy as np

import thalweg.graph as graph
from tests.faults.clusters import HARD_LIMIT, wait_for
from thalweg.runtime import Local


def values(n, seed):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, 50)) * 10.0 ** rng.integers(-12, 12, (n, 1))


def holding(table, folder, held):
    """A task that says who has begun each item, and that stays in one of them until it may go on."""
    folder = str(folder)

    def task(i):
        place = Path(folder)
        (place / f"begun-{i}-{os.getpid()}").touch()
        while i == held and not (place / "go").exists():
            time.sleep(0.01)
        return {"g": table[i].copy(), "loss": float(table[i, 0])}

    return task


def pid_of(folder, item):
    """The process that has begun this item."""
    found = next(iter(folder.glob(f"begun-{item}-*")), None)
    return int(found.name.rpartition("-")[2]) if found else None


def bits(total):
    return total["g"].tobytes() + np.float64(total["loss"]).tobytes()


def expected(table):
    with Local(1) as local:
        return bits(
            graph.wait(
                local.map_reduce(lambda i: {"g": table[i].copy(), "loss": float(table[i, 0])}, range(len(table)))
            )
        )


async def limited(work):
    return await asyncio.wait_for(work, HARD_LIMIT)


def strike(runtime, folder, seed, hit, *, n=23, go_on=True):
    """Run a sum and hit the worker of a random item in the middle of it; who that was, and which item.

    Without ``go_on`` the item is finished by another worker only: the one that was hit stays in it.
    """
    print(f"seed {seed}")
    table = values(n, seed)
    held = int(np.random.default_rng(seed).integers(n))
    place = folder / f"seed-{seed}"
    place.mkdir()

    async def main():
        work = asyncio.ensure_future(limited(runtime.map_reduce(holding(table, place, held), range(n))))
        pid = await asyncio.to_thread(wait_for, lambda: pid_of(place, held))
        hit(pid)
        if not go_on:
            await asyncio.to_thread(wait_for, lambda: begun_by(place, held) - {pid})
        (place / "go").touch()
        return pid, await work

    pid, total = asyncio.run(main())
    assert bits(total) == expected(table)
    return pid, place, held


def kill(pid):
    os.kill(pid, signal.SIGKILL)


def begun_by(place, item):
    return {int(path.name.rpartition("-")[2]) for path in place.glob(f"begun-{item}-*")}


def count(runtime):
    """How many workers the cluster has."""
    return len(runtime._client.scheduler_info(n_workers=-1)["workers"])
