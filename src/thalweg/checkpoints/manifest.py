"""The manifest of a generation: JSON with one text for one meaning, and a digest over itself.

::

    digest = BLAKE2b(canonical JSON of the manifest without "digest")

What is read is somebody's file: duplicate keys, numbers that are none, and more than a manifest can need are
refused, and so is a text that is not the one that would be written, since a flipped bit may leave the meaning of
JSON as it was.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from thalweg.checkpoints.files import corrupt, new_file, plain_file, read_into, write_all
from thalweg.errors import CheckpointError, CheckpointVersionError

FORMAT = "1.0"
"""Of what is written. A newer minor version can be read all the same; a newer major one cannot."""

MANIFEST = "manifest.json"

LARGEST = 1 << 22
"""Bytes of JSON; some 20,000 arrays."""

VALUES = 200_000
"""Values in it: Python needs up to a hundred bytes for one, and the file three."""


def canonical(document: Mapping[str, Any]) -> bytes:
    """The one way to write a document as JSON: sorted keys, no spaces, UTF-8.

    Args:
        document: what JSON can hold, without NaN and infinity.

    Returns:
        The bytes.

    Raises:
        CheckpointError: JSON cannot hold it.

    Example:
        >>> from thalweg.checkpoints import canonical
        >>> canonical({"b": 1, "a": [0.1, None]})
        b'{"a":[0.1,null],"b":1}'
    """
    try:
        text = _sorted(document)
        if json.loads(text) != document:
            raise ValueError("it comes back changed: keys must be strings, and tuples lists")
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"this cannot be written as JSON: {error}") from error


def digest(*parts: bytes | memoryview) -> str:
    """BLAKE2b of the parts, 32 bytes as hexadecimal digits."""
    state = hashlib.blake2b(digest_size=32)
    for part in parts:
        state.update(part)
    return state.hexdigest()


def write_manifest(path: Path, manifest: dict[str, Any]) -> None:
    """Write a manifest with its digest.

    Raises:
        CheckpointError: it is larger than what can be read again.
    """
    signed = {**manifest, "digest": digest(canonical(manifest))}
    text = render(signed).encode()
    if len(text) > LARGEST or _values(text) > VALUES:
        raise CheckpointError(
            f"a checkpoint of {len(manifest['arrays'])} arrays with {len(text)} bytes of meta is more than a "
            f"manifest may hold ({LARGEST} bytes, {VALUES} values); put numbers into arrays"
        )
    with new_file(path) as descriptor:
        write_all(descriptor, text)


def render(manifest: dict[str, Any]) -> str:
    """The text that a manifest is written as."""
    return json.dumps(manifest, indent=1, allow_nan=False, ensure_ascii=False)


def read_manifest(path: Path) -> dict[str, Any]:
    """A manifest without its digest, checked.

    Raises:
        CheckpointCorruptError: it is damaged.
        CheckpointVersionError: a newer major version of the format wrote it.
    """
    with plain_file(path) as (descriptor, size):
        if size > LARGEST:
            raise corrupt(path, f"has {size} bytes; a manifest has at most {LARGEST}")
        content = bytearray(size)
        if not read_into(descriptor, memoryview(content)):
            raise corrupt(path, "became shorter while it was read")
    try:
        manifest = strict(bytes(content))
    except (ValueError, RecursionError) as error:
        raise corrupt(path, f"is not JSON ({error})") from error
    version = manifest.get("format") if isinstance(manifest, dict) else None
    if not isinstance(version, str) or not re.fullmatch(r"[0-9]{1,9}\.[0-9]{1,9}", version):
        raise corrupt(path, "has no format version", "format")
    if int(version.split(".")[0]) > int(FORMAT.split(".")[0]):
        raise CheckpointVersionError(
            f"{path} has format {version}; this version of Thalweg reads {FORMAT}: update Thalweg",
            file=str(path),
            format=version,
        )
    _check_itself(path, manifest, bytes(content))
    for key, kind in (("generation", int), ("bytes", int), ("arrays", dict), ("meta", dict)):
        if type(manifest.get(key)) is not kind:
            raise corrupt(path, f"has no {key}", key)
    return dict(manifest)


def strict(content: bytes) -> Any:
    """The document of a JSON text that has no duplicate keys and finite numbers only.

    Raises:
        ValueError: it is no such text, or holds more values than we write.
        RecursionError: it is nested too deeply.
    """
    if _values(content) > VALUES:
        raise ValueError(f"more than {VALUES} values")
    return json.loads(
        content.decode(), parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_without_duplicates
    )


def _check_itself(path: Path, manifest: dict[str, Any], content: bytes) -> None:
    try:
        text = render(manifest).encode()
        given = manifest.pop("digest", None)
        same = given == digest(_sorted(manifest).encode())
    except (ValueError, RecursionError):
        same = False
    if not same:
        raise corrupt(path, "does not match its own digest", "digest")
    if text != content:
        raise corrupt(path, "means what was saved, and its text is another: a byte of it has changed", "digest")


def _sorted(document: Mapping[str, Any]) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _values(content: bytes) -> int:
    """At least the number of values in a JSON text: each comes after one of these."""
    return sum(content.count(mark) for mark in (b",", b":", b"[", b"{"))


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is more than a number can be")
    return number


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key comes twice")
    return found
