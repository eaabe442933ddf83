"""Compiled code in which the threads of a team share the pieces of a pass: what they are told by, and wait with.

A thread that waits looks again and again for some tens of microseconds before it goes to sleep: passes come one after
the other, and waking it takes longer than many of them. Whoever has done its own pieces goes on with those of others,
so a thread that wakes late, or has no core, costs little. One pass goes forward through a thread's own pieces, the next
one backward: it begins with what is still in the cache. ::

    whoever has a pass:      opens the pieces, counts the pass up, takes pieces, waits until all are done
    each of the others:      waits for the next pass, takes pieces

A piece is taken by whoever turns its claim from 2·pass into 2·pass + 1, which succeeds once in a process's life: a
thread that comes late finds nothing to take. The code is made with llvmlite, which kernels are loaded with; numba is
not needed.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from typing import Any

LINE = 8
"""The words, of 8 bytes, of a line of the cache: what different threads write lies in different lines."""

PASS, FINISHED, FAILED, COUNT, EACH, PIECES = (LINE * k for k in range(6))
"""Words of a team: how many passes there were; how many pieces of this one are done, and how many of them failed; how
many there are, and how many of them are a thread's own; where they lie."""
THREADS = LINE * 6
"""From here a line a thread: the last pass that it has seen, and whether it is asleep."""

PIECE = 4
"""The words of a piece: a function, and the three addresses that it takes."""

MOST = 1024
"""The most pieces of a pass."""

ALIGNED = 8 * LINE
"""What a team's address is a multiple of."""

SPINS = 2000
"""How often a thread looks before it sleeps: some 50 µs, more than lie between the passes of a step."""

_RELAX: dict[str, tuple[str, tuple[int, ...]]] = {
    "x86_64": ("llvm.x86.sse2.pause", ()),
    "aarch64": ("llvm.aarch64.isb", (15,)),
}
"""An instruction that leaves the core to its other thread for a moment, by machine."""


def words(threads: int) -> int:
    """How many words a team of so many threads takes; zeros make one that has had no pass."""
    return THREADS + LINE * threads + MOST


def asleep(thread: int) -> int:
    """Where, counted from a team's address, an int64 says that a thread is asleep, or about to be: 1 or 0."""
    return 8 * (THREADS + LINE * thread + 1)


class Compiled:
    """The two functions of a team, compiled for this processor.

    Args:
        threads: how many threads a team has.

    Attributes:
        share: ``share(team, pieces, count) -> failed``: opens a pass, works on it, waits for its end.
        serve: ``serve(team, thread)``: works on passes as they come; returns when there has been none for a while.
    """

    def __init__(self, threads: int) -> None:
        import llvmlite.binding as llvm

        from thalweg.lowering.objects import engine

        self._engine = engine(llvm.parse_assembly(_text(threads)))
        address, integer = ctypes.c_void_p, ctypes.c_int64
        share = ctypes.CFUNCTYPE(integer, address, address, integer)
        serve = ctypes.CFUNCTYPE(None, address, integer)
        self.share: Callable[[int, int, int], int] = share(self._engine.get_function_address("share"))
        self.serve: Callable[[int, int], None] = serve(self._engine.get_function_address("serve"))


def _text(threads: int) -> str:
    """LLVM's text of the two functions."""
    from llvmlite import ir

    module = ir.Module("thalweg_team")
    parts = _Parts(ir, module, threads)
    work = parts.work()
    parts.share(work)
    parts.serve(work)
    return str(module)


class _Parts:
    def __init__(self, ir: Any, module: Any, threads: int) -> None:
        self.ir, self.module, self.threads = ir, module, threads
        self.i64, self.i32, self.none = ir.IntType(64), ir.IntType(32), ir.VoidType()
        self.claims = THREADS + LINE * threads
        name, self.takes = _RELAX.get(os.uname().machine, ("", ()))
        kind = ir.FunctionType(self.none, [self.i32] * len(self.takes))
        self.rest = ir.Function(module, kind, name) if name else None
        self.give_way = ir.Function(module, ir.FunctionType(self.i32, []), "sched_yield")

    def begin(self, name: str, result: Any, count: int) -> tuple[Any, Any, Any]:
        """A function of so many integers, and a builder at its beginning."""
        function = self.ir.Function(self.module, self.ir.FunctionType(result, [self.i64] * count), name)
        return function, self.ir.IRBuilder(function.append_basic_block("entry")), function.args

    def at(self, builder: Any, base: Any, word: Any, kind: Any = None) -> Any:
        """The place of a word, counted from an address."""
        offset = builder.mul(self.number(word), self.i64(8)) if not isinstance(word, int) else self.i64(8 * word)
        return builder.inttoptr(builder.add(base, offset), (kind or self.i64).as_pointer())

    def number(self, value: Any) -> Any:
        return self.i64(value) if isinstance(value, int) else value

    def load(self, builder: Any, base: Any, word: Any, ordering: str = "monotonic") -> Any:
        return builder.load_atomic(self.at(builder, base, word), ordering, 8)

    def store(self, builder: Any, base: Any, word: Any, value: Any, ordering: str = "monotonic") -> None:
        builder.store_atomic(self.number(value), self.at(builder, base, word), ordering, 8)

    def relax(self, builder: Any) -> None:
        if self.rest is not None:
            builder.call(self.rest, [self.i32(value) for value in self.takes])

    def work(self) -> Any:
        """``work(team, thread, pass)``: take pieces until none is left, a thread's own first."""
        function, b, (team, thread, turn) = self.begin("work", self.none, 3)
        function.linkage = "internal"
        opened = b.mul(turn, self.i64(2))
        taken = b.add(opened, self.i64(1))
        count, each = self.load(b, team, COUNT), self.load(b, team, EACH)
        first = b.mul(thread, each)
        entry, look, take, run, onward, end = (
            b.block,
            *map(function.append_basic_block, ("look", "take", "run", "onward", "end")),
        )
        b.branch(look)
        b.position_at_end(look)
        step = b.phi(self.i64)
        step.add_incoming(self.i64(0), entry)
        b.cbranch(b.icmp_signed("<", step, count), take, end)
        b.position_at_end(take)
        # Its own, forward and backward in turn; then those before them backward, around to the last of the next thread.
        mirrored = b.sub(b.sub(each, self.i64(1)), step)
        own = b.select(b.trunc(turn, self.ir.IntType(1)), step, mirrored)
        back = b.sub(b.add(first, count), b.add(b.sub(step, each), self.i64(1)))
        piece = b.urem(b.select(b.icmp_signed("<", step, each), b.add(first, own), back), count)
        claim = self.at(b, team, b.add(piece, self.i64(self.claims)))
        b.cbranch(b.extract_value(b.cmpxchg(claim, opened, taken, "acq_rel", "monotonic"), 1), run, onward)
        b.position_at_end(run)
        line = b.add(self.load(b, team, PIECES), b.mul(piece, self.i64(8 * PIECE)))
        called = self.ir.FunctionType(self.i32, [self.i64] * 3).as_pointer()
        target = b.inttoptr(b.load(self.at(b, line, 0)), called)
        status = b.call(target, [b.load(self.at(b, line, k)) for k in (1, 2, 3)])
        failed = b.zext(b.icmp_signed("!=", status, self.i32(0)), self.i64)
        b.atomic_rmw("add", self.at(b, team, FAILED), failed, "monotonic")
        b.atomic_rmw("add", self.at(b, team, FINISHED), self.i64(1), "release")
        b.branch(onward)
        b.position_at_end(onward)
        step.add_incoming(b.add(step, self.i64(1)), onward)
        b.branch(look)
        b.position_at_end(end)
        b.ret_void()
        return function

    def share(self, work: Any) -> None:
        """``share(team, pieces, count)``: for whoever has a pass, one at a time."""
        function, b, (team, pieces, count) = self.begin("share", self.i64, 3)
        turn = b.add(self.load(b, team, PASS), self.i64(1))
        opened = b.mul(turn, self.i64(2))
        entry, fill, ready = b.block, *map(function.append_basic_block, ("fill", "ready"))
        wait, doze, relax, done = map(function.append_basic_block, ("wait", "doze", "relax", "done"))
        b.branch(fill)
        b.position_at_end(fill)
        piece = b.phi(self.i64)
        piece.add_incoming(self.i64(0), entry)
        self.store(b, team, b.add(piece, self.i64(self.claims)), opened)
        following = b.add(piece, self.i64(1))
        piece.add_incoming(following, fill)
        b.cbranch(b.icmp_signed("<", following, count), fill, ready)
        b.position_at_end(ready)
        several = self.i64(self.threads)
        each = b.udiv(b.add(count, b.sub(several, self.i64(1))), several)
        for word, value in ((FINISHED, 0), (FAILED, 0), (COUNT, count), (EACH, each), (PIECES, pieces)):
            self.store(b, team, word, value)
        self.store(b, team, PASS, turn, "seq_cst")
        b.call(work, [team, self.i64(0), turn])
        b.branch(wait)
        b.position_at_end(wait)
        spins = b.phi(self.i64)
        spins.add_incoming(self.i64(0), ready)
        b.cbranch(b.icmp_signed("<", self.load(b, team, FINISHED, "acquire"), count), doze, done)
        b.position_at_end(doze)
        with b.if_then(b.icmp_signed(">", spins, self.i64(SPINS)), likely=False):
            b.call(self.give_way, [])
        b.branch(relax)
        b.position_at_end(relax)
        self.relax(b)
        spins.add_incoming(b.add(spins, self.i64(1)), relax)
        b.branch(wait)
        b.position_at_end(done)
        b.ret(self.load(b, team, FAILED))

    def serve(self, work: Any) -> None:
        """``serve(team, thread)``: for the others, each of them."""
        function, b, (team, thread) = self.begin("serve", self.none, 2)
        own = b.add(b.mul(thread, self.i64(LINE)), self.i64(THREADS))
        sleeps = b.add(own, self.i64(1))
        entry, wait, come, idle, nod, leave = (
            b.block,
            *map(function.append_basic_block, ("wait", "come", "idle", "nod", "leave")),
        )
        self.store(b, team, sleeps, 0, "seq_cst")
        seen = self.load(b, team, own)
        b.branch(wait)
        b.position_at_end(wait)
        spins, last = b.phi(self.i64), b.phi(self.i64)
        turn = self.load(b, team, PASS, "acquire")
        b.cbranch(b.icmp_signed("!=", turn, last), come, idle)
        b.position_at_end(come)
        self.store(b, team, own, turn)
        b.call(work, [team, thread, turn])
        b.branch(wait)
        b.position_at_end(idle)
        self.relax(b)
        more = b.add(spins, self.i64(1))
        b.cbranch(b.icmp_signed("<", more, self.i64(SPINS)), wait, nod)
        b.position_at_end(nod)
        self.store(b, team, sleeps, 1, "seq_cst")
        missed = b.icmp_signed("!=", self.load(b, team, PASS, "seq_cst"), last)
        awake = function.append_basic_block("awake")
        b.cbranch(missed, awake, leave)
        b.position_at_end(awake)
        self.store(b, team, sleeps, 0, "seq_cst")
        b.branch(wait)
        b.position_at_end(leave)
        b.ret_void()
        for block, count, known in (
            (entry, self.i64(0), seen),
            (come, self.i64(0), turn),
            (idle, more, last),
            (awake, self.i64(0), last),
        ):
            spins.add_incoming(count, block)
            last.add_incoming(known, block)
