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
        data: the pickled task; its shared parts are named by their keys.
        shared: the shared parts, by key.
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
            shared[part.key] = part
            return part.key

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
    return Packed(data, shared, hashlib.blake2b(data, digest_size=16).hexdigest())


def unpack(data: bytes, shared: Mapping[str, Shared[Any]]) -> Any:
    """The task that :func:`pack` made bytes of. It executes what the bytes say: only for those of a trusted peer."""

    class Unpacker(pickle.Unpickler):
        def persistent_load(self, key: Any) -> Shared[Any]:
            return shared[key]

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
