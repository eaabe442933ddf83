"""The NumPy lowering: a rule's text compiled by numba into one fused in-place pass over any number of arrays.

``fastmath`` allows contraction, reciprocals, reassociation and ignoring the sign of zero, which is what
vectorizing a division takes; it never assumes that there is no NaN or infinity. Compiled passes are kept on disk,
and read without numba (see :mod:`thalweg.lowering.objects`).
"""

from __future__ import annotations

import dis
import functools
import pickletools
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np

from thalweg.errors import RuleError, ThalwegError
from thalweg.lowering import objects
from thalweg.lowering.digest import reachable, text_digest
from thalweg.lowering.layout import Shape
from thalweg.lowering.reasons import reason
from thalweg.rules import arithmetic
from thalweg.rules.base import Rule
from thalweg.rules.keeping import kept_with_rule
from thalweg.rules.trying import explain, raised_by_a_text, terms

# What NumPy's ufunc of the same name costs too much for, one element at a time. Without annotations: numba
# compares the names and annotations of the outer function with those of the inner one.
SCALAR_FORMS: dict[Callable[..., Any], Callable[..., Any]] = {
    arithmetic.maximum: lambda x, y: lambda x, y: x if x > y or x != x else y,
    arithmetic.minimum: lambda x, y: lambda x, y: x if x < y or x != x else y,
    arithmetic.where: lambda condition, x, y: lambda condition, x, y: x if condition else y,
    arithmetic.equal: lambda x, y: lambda x, y: x == y,
    arithmetic.sqrt: lambda x: lambda x: np.sqrt(x),
    arithmetic.absolute: lambda x: lambda x: np.abs(x),
    arithmetic.sign: lambda x: lambda x: np.sign(x),
    arithmetic.floor: lambda x: lambda x: np.floor(x),
    arithmetic.cos: lambda x: lambda x: np.cos(x),
    arithmetic.isfinite: lambda x: lambda x: np.isfinite(x),
    arithmetic.if_number: lambda x, number, array: lambda x, number, array: number,
}

OPTIONS: dict[str, Any] = {
    "error_model": "numpy",
    "fastmath": {"contract", "arcp", "nsz", "reassoc"},
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}

_COMPILING = threading.Lock()


@dataclass(frozen=True, eq=False)
class Kernel:
    """A rule compiled for one dtype.

    Args:
        rule: the rule.
        dtype: float32 or float64.
        shape: what numbers the rule has.
        loaded: the compiled pass.
        may_fail: whether the code holds an error, as for an index out of range, that may leave arrays half updated.
    """

    rule: Rule
    dtype: np.dtype[Any]
    shape: Shape
    loaded: objects.Loaded
    may_fail: bool = False


def compile_rule(rule: Rule, dtype: np.dtype[Any]) -> Kernel:
    """Compile ``rule`` for ``dtype``, or read it from the cache; the second call in a process costs nothing.

    The kernel is kept with the rule: it is freed when nobody holds the rule any more.

    Args:
        rule: the rule.
        dtype: float32 or float64, in native byte order.

    Returns:
        The kernel.

    Raises:
        RuleError: the text cannot be compiled; the message says why (a number literal beside float32 numbers, say, a
            name that is not there, or an error that it can raise).

    Example:
        >>> import numpy as np
        >>> from thalweg.lowering import Batch, Part, address_of, compile_rule
        >>> from thalweg.rules import sgd
        >>> x, g = np.ones(2), np.array([10.0, -10.0])
        >>> batch = Batch(compile_rule(sgd, x.dtype), [Part(address_of(x), x.size, ())])
        >>> batch.set_grad(0, address_of(g))
        >>> batch.set_hyper(0, sgd.hyper(), t=1)
        >>> batch.step()
        >>> x
        array([0.9, 1.1])
    """
    try:
        return kernel_of(rule, dtype)
    except (AttributeError, TypeError, ValueError, NameError) as error:
        explain(rule, error)
        raise


@kept_with_rule
def kernel_of(rule: Rule, dtype: np.dtype[Any]) -> Kernel:
    """What :func:`compile_rule` returns, for those who can do without: no text is tried to find out why there is none.

    Args:
        rule: the rule.
        dtype: float32 or float64, in native byte order.

    Returns:
        The kernel.

    Raises:
        RuleError: the text cannot be compiled.
    """
    shape = shape_of(rule)
    key = _digest(rule, dtype)
    refused = _refused(rule)
    if key in refused:
        raise RuleError(refused[key], rule=rule.name)
    found = objects.read(key)
    if found is not None:
        try:
            loaded = objects.Loaded(*found)
        except (RuntimeError, UnicodeDecodeError):  # another LLVM's, say: it is compiled again
            found = None
    if found is not None:
        code = found[0]
    else:
        try:
            code, symbol = _compile(rule, dtype, shape)
        except RuleError as error:
            refused[key] = str(error)
            raise
        if b"NRT_" not in code:  # numba's memory, for a list in the text, is there in the process that compiled
            objects.write(key, code, symbol)
        loaded = objects.Loaded(code, symbol)
    return Kernel(rule, dtype, shape, loaded, may_fail=_RAISES.encode() in code)


@kept_with_rule
def _refused(rule: Rule) -> dict[str, str]:
    """Why it cannot be compiled, by the digest of all that this depends on: to find it out takes seconds."""
    return {}


def shape_of(rule: Rule) -> Shape:
    """What numbers a rule has.

    Args:
        rule: the rule.

    Returns:
        The counts, and the named tuple of its scalars.

    Raises:
        RuleError: a text of it does not return what it is to or raises an error, or its measure is in the words of
            another library.
    """
    try:
        return _shape_of(rule)
    except Exception as error:
        if not raised_by_a_text(error):
            raise
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise _can_raise(rule, place.name, place.filename, place.lineno) from error


def _shape_of(rule: Rule) -> Shape:
    hyper = rule.hyper()
    example = rule.scalars(hyper, 1, rule.advance(hyper, 1, None))
    sums = 0
    try:
        if rule.measure is not None:
            one = np.ones(1)
            sums = len(terms(rule, rule.measure(one, one, rule.slots(*(one for _ in rule.slot_names)), example)))
        return Shape(len(rule.slot_names), len(hyper), len(example), len(rule.carried_names), sums, type(example))
    except (AttributeError, LookupError, NameError, RuntimeError, TypeError, ValueError) as error:
        explain(rule, error)
        if isinstance(error, ThalwegError) or raised_by_a_text(error):
            raise
        why = f"rule {rule.name!r}: measure cannot be computed with NumPy's numbers: {error}"
        raise RuleError(why, rule=rule.name) from error


def _digest(rule: Rule, dtype: np.dtype[Any]) -> str:
    """All that the machine code depends on. Found without numba, whose import takes longer than everything else."""
    import llvmlite

    here = Path(__file__).parent
    lowering = [(here / name).read_bytes() for name in ("loops.py", "memory.py", "layout.py", "numpy.py")]
    texts = (rule.update, rule.prepare, rule.carry, rule.measure, rule.conclude)
    shape = shape_of(rule)
    named = (rule.slot_names, tuple(rule.hyperparameters), rule.carried_names, shape.scalars_type._fields, shape[:-1])
    versions = (
        sys.version_info[:3],
        np.__version__,
        objects.numba_release(),
        llvmlite.__version__,
        objects.processor(),
    )
    return text_digest(*texts, *SCALAR_FORMS.values(), *map(repr, (named, lowering, dtype.name, versions)))


def _compile(rule: Rule, dtype: np.dtype[Any], shape: Shape) -> tuple[bytes, str]:
    """The object file, and the name of the function in it."""
    numba: Any = import_module("numba")
    llvm: Any = import_module("llvmlite.binding")
    errors: Any = import_module("numba.core.errors")
    loops: Any = import_module("thalweg.lowering.loops")

    with _COMPILING:
        _scalar_forms()
        for text in _texts(rule):
            for function in reachable(text):
                if function.__module__ not in _OVERLOADED or hasattr(function, "part"):
                    _know(function)
        function = loops.make_pass(rule, numba.from_dtype(dtype), shape, _know)
        function.__name__ = function.__qualname__ = f"{rule.name}_{dtype.name}"
        try:
            dispatcher = numba.njit(**OPTIONS)(function)
            signature = (numba.types.int64,)
            dispatcher.compile(signature)
        except (
            *(errors.NumbaError, errors.UnsupportedBytecodeError),
            *(TypeError, IndexError, AssertionError, ValueError),  # of `raise ... from ...`, say
        ) as error:
            why = f"rule {rule.name!r} cannot be compiled for {dtype}: {reason(str(error))}"
            raise RuleError(why, rule=rule.name) from error  # whatever it is, it is from numba
        name, features = objects.processor()
        machine = llvm.Target.from_default_triple().create_target_machine(
            cpu=name, features=features, opt=3, reloc="default", codemodel="jitdefault", jit=True
        )
        assembly = dispatcher.inspect_llvm(signature)
        if _RAISES in assembly:
            _refuse_raising(rule, assembly)
        module = llvm.parse_assembly(assembly)
        (symbol,) = (f.name for f in module.functions if not f.is_declaration and f.linkage is llvm.Linkage.external)
        return machine.emit_object(module), symbol


_RAISES = ".const.picklebuf."  # what numba calls an error that is left in optimized code: one that is never met is not
_RAISED = re.compile(r'^@\.const\.pickledata\..*? c"(.*?)"', re.MULTILINE)  # its class, arguments and place
_ESCAPE = re.compile(rb"\\(\\|[0-9A-Fa-f]{2})")
_NUMBERS = ("BININT", "BININT1", "BININT2")
_RECALLED = ("BINGET", "LONG_BINGET")


def _refuse_raising(rule: Rule, assembly: str) -> None:
    """Refuse texts in which an error is raised: compiled code would stop there, in the middle of the arrays.

    What may fail elsewhere, as an index or a power of an integer, is no reason: it is told when it happens.

    Raises:
        RuleError: a text does, or a function that it calls, and the code still holds it.
    """
    places = set(_places(assembly))
    for text in _texts(rule):
        for function in reachable(text):
            waiting = [function.__code__]
            for code in waiting:  # grows while it is walked: functions hold functions
                waiting += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
                lines = [
                    at.positions and at.positions.lineno for at in dis.get_instructions(code) if at.opname == _RAISE
                ]
                line = next((line for line in lines if (code.co_filename, line) in places), None)
                if line is not None:
                    raise _can_raise(rule, code.co_name, code.co_filename, line)


def _can_raise(rule: Rule, name: str, file: str, line: int | None) -> RuleError:
    return RuleError(
        f"rule {rule.name!r}: {name} can raise an error ({file}, line {line}), which compiled code cannot; take raise "
        "and assert out: what a hyperparameter may be is said by its range in Hyper",
        rule=rule.name,
    )


_RAISE = "RAISE_VARARGS"  # an assert's, too


def _places(assembly: str) -> Iterator[tuple[str, int]]:
    """File and line of the errors that are left in optimized code, as far as numba tells: of its own it seldom does.

    They are pickled, and end with the place; nothing is unpickled.
    """
    for match in _RAISED.finditer(assembly):
        pickled = _ESCAPE.sub(
            lambda escape: b"\\" if escape[1] == b"\\" else bytes.fromhex(escape[1].decode()), match[1].encode()
        )
        values: list[Any] = [None, None]
        memory: list[Any] = []
        last: Any = None  # what an instruction to remember would remember, if that is a string
        try:
            value: Any
            for instruction, value, _ in pickletools.genops(pickled):
                if instruction.name == "MEMOIZE":
                    memory.append(last)
                last = memory[value] if instruction.name in _RECALLED else value if isinstance(value, str) else None
                if last is not None or instruction.name in (*_NUMBERS, "NONE"):
                    values.append(value if last is None else last)
        except (ValueError, IndexError):  # not such a constant
            continue
        file, line = values[-2:]
        if isinstance(file, str) and isinstance(line, int):
            yield file, line


def _texts(rule: Rule) -> list[Callable[..., Any]]:
    texts = (rule.update, rule.prepare, rule.carry, rule.measure, rule.conclude)
    return [text for text in texts if text is not None]


# Compiled code has forms of its own for the functions of these modules that a text may call.
_OVERLOADED = ("thalweg.rules.arithmetic", "thalweg.rules.namespaces", "thalweg.rules.declaring")


@functools.cache
def _scalar_forms() -> None:
    """Tell numba what the names of ``rules.arithmetic`` mean for one element."""
    extending: Any = import_module("numba.extending")

    for name in arithmetic.__all__:
        function = getattr(arithmetic, name)
        extending.overload(function)(SCALAR_FORMS[function])


@functools.cache  # numba itself forgets no function that it was told of
def _know(function: Any) -> Any:
    """Let compiled code call a plain function."""
    if hasattr(function, "part"):
        import_module("thalweg.lowering.memory").know_taker(function)
        return function
    if hasattr(function, "thalweg_element"):
        return import_module("numba.extending").overload(function)(function.thalweg_element)
    return import_module("numba.extending").register_jitable(function)
