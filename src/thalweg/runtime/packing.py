"""A task as bytes for another process, its :class:`Shared` parts left out: they go there on their own, once."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from thalweg.errors import RunError
from thalweg.runtime.shared import Shared


class Packed(NamedTuple):
    """A task on its way.

    Attributes:
        data: the pickled task; its shared parts are named by their digests.
        shared: the shared parts, by digest.
        digest: of the whole.
    """

    data: bytes
    shared: dict[str, Shared[Any]]
    digest: str


def pack(task: Callable[..., Any]) -> Packed:
    """The task as bytes.

    Raises:
        RunError: something in it cannot be pickled.
    """
    import cloudpickle

    shared: dict[str, Shared[Any]] = {}

    class Packer(cloudpickle.Pickler):  # type: ignore[misc]  # untyped
        def persistent_id(self, part: Any) -> str | None:
            if not isinstance(part, Shared):
                return None
            digest = digest_of(part)
            shared[digest] = part
            return digest

    file = io.BytesIO()
    try:
        Packer(file, protocol=5).dump(task)
    except RunError:
        raise
    except Exception as error:
        name = getattr(task, "__qualname__", type(task).__qualname__)
        raise RunError(
            f"The task {name} cannot be sent to other processes: {type(error).__name__}: {error}. Everything that it "
            "refers to must be picklable: arrays, numbers, functions and classes of installed modules; no open files, "
            "locks, threads or parts of a graph."
        ) from error
    data = file.getvalue()
    return Packed(data, shared, _digest(data))


def unpack(data: bytes, shared: Mapping[str, Shared[Any]]) -> Any:
    """The task that :func:`pack` made bytes of. It executes what the bytes say: only for those of a trusted peer."""

    class Unpacker(pickle.Unpickler):
        def persistent_load(self, digest: Any) -> Shared[Any]:
            return shared[digest]

    return Unpacker(io.BytesIO(data)).load()


def recipe(part: Shared[Any]) -> bytes:
    """A shared part as bytes."""
    import cloudpickle

    try:
        data: bytes = cloudpickle.dumps(part, protocol=5)
    except Exception as error:
        raise RunError(
            f"What tasks share cannot be sent to other processes: {type(error).__name__}: {error}. The arguments of "
            "Shared must be picklable, and its function or class must be one of an installed module."
        ) from error
    return data


def digest_of(part: Shared[Any]) -> str:
    """The digest of a shared part's recipe, which is pickled once for it."""
    if part.digest is None:
        part.digest = _digest(recipe(part))
    return part.digest


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()
