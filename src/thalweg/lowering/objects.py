"""Compiled objects on disk and in memory: how the second process is spared numba and the compiler.

An object file holds machine code for one processor and one pass. It is kept in the user's cache folder
(``$THALWEG_CACHE_DIR``, else ``$XDG_CACHE_HOME/thalweg``, else ``~/.cache/thalweg``) under the digest of all that
it depends on, with a digest of its own bytes in front. Writing is to a temporary name, then a rename, so any number
of processes may fill the cache at once. What is damaged is compiled again. The folder must belong to the user and
be writable by nobody else, or it is not used: what lies there is executed.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import stat
import tempfile
import threading
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

MAGIC = b"thalweg kernel 1\n"

_LOADING = threading.Lock()  # LLVM's set-up is not for two threads at once


class Loaded:
    """Machine code in memory, and the function in it.

    Args:
        code: an object file.
        symbol: the name of its function, which numba compiled: it writes its result, an int64, to the first address
            that it is given, would write an exception to the second, and takes an int64.

    Raises:
        RuntimeError: the function is not in it.
    """

    def __init__(self, code: bytes, symbol: str) -> None:
        import llvmlite.binding as llvm

        # The engine owns the memory that the code lies in: it lives as long as this object.
        self._engine = engine(llvm.parse_assembly(""), llvm.ObjectFileRef.from_data(code))
        address = self._engine.get_function_address(symbol)
        if not address:
            raise RuntimeError(f"the compiled object holds no function {symbol!r}")
        types = (ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)  # c_int64 takes 0.2 µs longer
        self.address: int = address
        """Where the function lies."""
        self.function: Callable[[int, int, int], int] = ctypes.CFUNCTYPE(*types)(address)
        """Lets go of the GIL during the call."""
        self.brief: Callable[[int, int, int], int] = ctypes.PYFUNCTYPE(*types)(address)
        """Keeps it: for calls of microseconds, which waking another thread that waits for it takes as well."""


def engine(module: Any, *files: Any) -> Any:
    """Code that can be run.

    Args:
        module: of llvmlite, compiled for this processor.
        files: object files, taken as they are.

    Returns:
        LLVM's execution engine, which owns the memory that the code lies in.
    """
    import llvmlite.binding as llvm

    with _LOADING:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        for name, address in _library().items():
            llvm.add_symbol(name, address)
        machine = llvm.Target.from_default_triple().create_target_machine(jit=True)
        made = llvm.create_mcjit_compiler(module, machine)
        for file in files:
            made.add_object_file(file)
        made.finalize_object()
    return made


@functools.cache
def _library() -> dict[str, int]:
    """The functions of the C library that compiled code may call, by name: their addresses."""
    library = ctypes.CDLL(None)  # Python itself needs them
    if not hasattr(library, "powf"):
        from ctypes.util import find_library  # which starts a process, if not two

        library = ctypes.CDLL(find_library("m"))
    names = ("sched_yield", *(name + suffix for name in ("pow", "sqrt", "cos", "floor") for suffix in ("", "f")))
    return {
        name: address
        for name in names
        if (address := ctypes.cast(getattr(library, name), ctypes.c_void_p).value) is not None
    }


def processor() -> tuple[str, str]:
    """The processor that code is compiled for: its name and features, as numba's environment variables have them.

    Returns:
        LLVM's name and feature string. They are part of what a kernel is kept under, and of what the processes of a
        run are compared by. Numba is not loaded for them.
    """
    import llvmlite.binding as llvm

    name, features = os.environ.get("NUMBA_CPU_NAME"), os.environ.get("NUMBA_CPU_FEATURES")
    if not name:
        name = llvm.get_host_cpu_name()
    elif name == "generic" and features is None:
        features = ""
    return name, llvm.get_host_cpu_features().flatten() if features is None else features


def numba_release() -> str:
    """What says which numba is installed, found without importing it.

    Returns:
        Its own file of versions. ``importlib.metadata`` would have to import 60 modules, and to read all of the folder
        that numba is in; it is for a numba without that file.
    """
    spec = find_spec("numba")
    for place in (spec and spec.submodule_search_locations) or ():
        with contextlib.suppress(OSError):
            return (Path(place) / "_version.py").read_text(encoding="utf-8")
    from importlib.metadata import version

    return version("numba")


def folder() -> Path | None:
    """The cache folder, made if need be; ``None`` if there is none that can be trusted.

    Returns:
        A folder that belongs to this user and that nobody else may write to.
    """
    base = os.environ.get("THALWEG_CACHE_DIR")
    try:
        home = Path(base) if base else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "thalweg"
        kernels = home / "kernels"
        kernels.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = kernels.lstat()
    except (OSError, RuntimeError):  # read-only, or no home at all
        return None
    if not stat.S_ISDIR(found.st_mode) or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return None
    return kernels if not hasattr(os, "getuid") or found.st_uid == os.getuid() else None


def read(digest: str) -> tuple[bytes, str] | None:
    """A compiled object from the cache.

    Args:
        digest: of all that it depends on.

    Returns:
        The object file and the name of its function; ``None`` if it is not there, or is damaged.
    """
    kernels = folder()
    if kernels is None:
        return None
    try:
        content = (kernels / f"{digest}.o").read_bytes()
    except OSError:
        return None
    magic, _, rest = content.partition(b"\n")
    check, _, rest = rest.partition(b"\n")
    symbol, _, code = rest.partition(b"\n")
    if magic + b"\n" != MAGIC or check.decode("ascii", "replace") != _check(digest, symbol, code):
        return None
    return code, symbol.decode("ascii")


def write(digest: str, code: bytes, symbol: str) -> None:
    """Put a compiled object into the cache; where that is not possible, nothing happens.

    Args:
        digest: of all that it depends on.
        code: the object file.
        symbol: the name of its function.
    """
    kernels = folder()
    if kernels is None:
        return
    name = symbol.encode("ascii")
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=kernels, prefix=".writing-", delete=False) as file:
            temporary = file.name
            file.write(MAGIC + _check(digest, name, code).encode("ascii") + b"\n" + name + b"\n" + code)
        os.replace(temporary, kernels / f"{digest}.o")
    except OSError:  # full, or read-only: the next process compiles again
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def _check(digest: str, symbol: bytes, code: bytes) -> str:
    return hashlib.blake2b(digest.encode() + b"\n" + symbol + b"\n" + code, digest_size=16).hexdigest()
