"""Arrays in a safetensors file, written and read in one pass over their own memory.

::

    8 bytes     n, the length of the header, little-endian
    n bytes     {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...}, padded with spaces
    the rest    the arrays' bytes, one after the other without gaps, C order, little-endian

Any reader of the format reads it. Ours is strict, since the file may be damaged or somebody else's: the manifest
says what must be there, the header has to say the same in the very text that we write, and only then is memory
taken, no more than the file has.

Source: https://github.com/huggingface/safetensors (the section *Format*)
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from thalweg.checkpoints.files import PIECE, corrupt, new_file, plain_file, read_into, write_all
from thalweg.checkpoints.manifest import LARGEST, strict
from thalweg.errors import CheckpointError

STATE = "state.safetensors"

CODES = {
    "bool": "BOOL",
    **{f"int{bits}": f"I{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"U{bits}" for bits in (8, 16, 32, 64)},
    **{f"float{bits}": f"F{bits}" for bits in (16, 32, 64)},
}
"""NumPy's names of dtypes, and the format's."""


def plain(name: str, array: Any) -> np.ndarray:
    """The array as it is written: C-contiguous, little-endian, of a dtype that the format has.

    Raises:
        CheckpointError: it cannot be saved.
    """
    if not isinstance(name, str) or name.startswith("__") or name.encode(errors="ignore").decode() != name:
        raise CheckpointError(
            f"an array is named {name!r}; give a string without surrogates that does not start with '__'", entry=name
        )
    if not isinstance(array, np.ndarray | np.generic) or isinstance(array, np.ma.MaskedArray):
        raise CheckpointError(f"{name!r} is a {type(array).__name__}; only NumPy arrays can be saved", entry=name)
    if array.dtype.newbyteorder("=").name not in CODES:
        raise CheckpointError(
            f"{name!r} has dtype {array.dtype}, which cannot be saved (can be: {', '.join(sorted(CODES))})",
            entry=name,
        )
    return np.array(array, dtype=array.dtype.newbyteorder("<"), order="C", copy=None, subok=False)


def write_state(path: Path, arrays: Mapping[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """Write arrays that are :func:`plain`.

    Returns:
        What the manifest says of each: dtype, shape, digest.
    """
    # The widest first: then each begins at a multiple of its width, and may be used where it lies.
    names = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
    header, start = {}, 0
    for name in names:
        array = arrays[name]
        end = start + array.nbytes
        header[name] = {
            "dtype": CODES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [start, end],
        }
        start = end
    text = _text(header)
    if len(text) > LARGEST:
        raise CheckpointError(f"{len(arrays)} arrays are more than a checkpoint may hold; put them together")
    entries = {}
    with new_file(path) as descriptor:
        write_all(descriptor, struct.pack("<Q", len(text)) + text)
        for name in names:
            array = arrays[name]
            state = hashlib.blake2b(_head(array.dtype.name, array.shape), digest_size=32)
            content = _bytes(array)
            for place in range(0, len(content), PIECE):
                piece = content[place : place + PIECE]
                state.update(piece)
                write_all(descriptor, piece)
            entries[name] = {"dtype": array.dtype.name, "shape": list(array.shape), "digest": state.hexdigest()}
    return dict(sorted(entries.items()))


def state_bytes(sizes: Mapping[str, int]) -> int:
    """About how many bytes a generation needs, manifest included.

    Args:
        sizes: bytes of each array, by name.
    """
    return sum(sizes.values()) + sum(400 + 3 * len(name) for name in sizes) + 4096


def read_state(path: Path, entries: Mapping[str, Any], size: int) -> dict[str, np.ndarray]:
    """The arrays that a manifest tells of, each with its digest checked.

    Args:
        path: the file.
        entries: dtype, shape and digest by name, from the manifest.
        size: of the file, from the manifest.

    Raises:
        CheckpointCorruptError: anything is not as the manifest says.
    """
    with plain_file(path) as (descriptor, found):
        if found != size:
            raise corrupt(path, f"has {found} bytes; the manifest says {size}")
        header, room = _read_header(path, descriptor, size)
        for name in sorted(header.keys() ^ entries.keys()):
            where = "is missing" if name in entries else "is not in the manifest"
            raise corrupt(path, f"entry {name!r} {where}", name)
        arrays, start = {}, 0
        for name, told in header.items():
            array = _room(path, name, told, entries[name], start, room)
            content = _bytes(array)
            start += len(content)
            state = hashlib.blake2b(_head(entries[name]["dtype"], array.shape), digest_size=32)
            for place in range(0, len(content), PIECE):
                piece = content[place : place + PIECE]
                if not read_into(descriptor, piece):
                    raise corrupt(path, f"ends within entry {name!r}", name)
                state.update(piece)
            if state.hexdigest() != entries[name].get("digest"):
                raise corrupt(path, f"entry {name!r} does not match its digest", name)
            if array.dtype == np.bool_ and len(content) and np.frombuffer(content, np.uint8).max() > 1:
                raise corrupt(path, f"entry {name!r} has booleans that are neither", name)
            arrays[name] = array.astype(array.dtype.newbyteorder("="), copy=False)
        if start != room:
            raise corrupt(path, f"has {room} bytes of arrays; its header tells of {start}")
    return {name: arrays[name] for name in entries}


def _read_header(path: Path, descriptor: int, size: int) -> tuple[dict[str, Any], int]:
    """The header, and how many bytes come after it."""
    first = bytearray(8)
    if size < 8 or not read_into(descriptor, memoryview(first)):
        raise corrupt(path, "has no header")
    (length,) = struct.unpack("<Q", first)
    if length > min(size - 8, LARGEST):
        raise corrupt(path, f"says that its header has {length} bytes; it has {size}, and a header at most {LARGEST}")
    content = bytearray(length)
    if not read_into(descriptor, memoryview(content)):
        raise corrupt(path, "ends within its header")
    try:
        header = strict(bytes(content))
        if not isinstance(header, dict) or _text(header) != content:
            raise ValueError("not in the form in which it is written")
    except (ValueError, RecursionError) as error:
        raise corrupt(path, f"cannot be read (its header: {error})") from error
    return header, size - 8 - length


def _room(path: Path, name: str, told: Any, entry: Any, start: int, room: int) -> np.ndarray:
    """Memory for an array of which header and manifest say the same."""
    if not isinstance(entry, dict) or not isinstance(told, dict):
        raise corrupt(path, f"entry {name!r} is described by no table", name)
    kind, shape = entry.get("dtype"), entry.get("shape")
    if not isinstance(kind, str) or kind not in CODES:
        raise corrupt(path, f"entry {name!r} is of dtype {kind!r:.40}", name)
    if not isinstance(shape, list) or len(shape) > 64 or any(type(n) is not int or not 0 <= n < 1 << 60 for n in shape):
        raise corrupt(path, f"entry {name!r} is of shape {shape!r:.80}", name)
    dtype = np.dtype(kind).newbyteorder("<")
    end = start + dtype.itemsize * math.prod(shape)
    if end > room:
        raise corrupt(path, f"entry {name!r} would end {end - room} bytes after the end of the file", name)
    wanted = {"dtype": CODES[kind], "shape": shape, "data_offsets": [start, end]}
    if json.dumps(told, sort_keys=True) != json.dumps(wanted, sort_keys=True):  # 0.0 and False are equal to 0
        raise corrupt(path, f"entry {name!r} is {told!r:.200}, and by the manifest {kind} {shape!r:.80}", name)
    try:
        return np.empty(shape, dtype)
    except ValueError as error:  # more axes than an array can have
        raise corrupt(path, f"entry {name!r} cannot be an array: {error}", name) from error
    except MemoryError as error:
        raise CheckpointError(
            f"{path}: entry {name!r} has {end - start} bytes, and there is no memory for so many", entry=name
        ) from error


def _text(header: Mapping[str, Any]) -> bytes:
    # Spaces up to a multiple of 8 make the arrays begin at one.
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    return text + b" " * (-len(text) % 8)


def _head(dtype: str, shape: tuple[int, ...]) -> bytes:
    return f"{dtype}{shape}".encode()


def _bytes(array: np.ndarray) -> memoryview:
    return array.reshape(-1).view(np.uint8).data if array.size else memoryview(b"")
