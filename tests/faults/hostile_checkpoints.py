"""Checkpoints of somebody else's making: each changes a good generation, and is signed anew where that would help."""

import json
import os
import pickle
import socket
import struct
from pathlib import Path

import numpy as np

from thalweg.checkpoints.manifest import digest, render


class Evil:
    """Unpickled, it leaves a file."""

    def __reduce__(self):
        return os.mkdir, ("thalweg-was-here",)


def state_of(header, data=b"\0" * 24, length=None):
    """A state file from the text or the document of its header."""
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def signed(manifest):
    """The text of a manifest that its author has signed, as far as JSON goes."""
    manifest = {key: value for key, value in manifest.items() if key != "digest"}
    body = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return render({**manifest, "digest": digest(body.encode())}).encode()


def entry(shape=(3,), dtype="float64", data=b"\0" * 24):
    return {"dtype": dtype, "shape": list(shape), "digest": digest(f"{dtype}{tuple(shape)}".encode(), data)}


def told(shape=(3,), dtype="F64", offsets=(0, 24)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def both(entries, header, data=b"\0" * 24, **more):
    """Manifest and state that were made for each other."""

    def make(folder):
        content = state_of(header, data)
        (folder / "state.safetensors").write_bytes(content)
        manifest = {"format": "1.0", "generation": 1, "bytes": len(content), "arrays": entries, "meta": {}, **more}
        (folder / "manifest.json").write_bytes(signed(manifest))

    return make


def state(content):
    """Another state file, of whose size the manifest knows."""

    def make(folder):
        (folder / "state.safetensors").write_bytes(content)
        manifest = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_bytes(signed({**manifest, "bytes": len(content)}))

    return make


def manifest(content):
    """Another manifest, as it is."""
    return lambda folder: (folder / "manifest.json").write_bytes(content)


def changed(**values):
    """A manifest with other values, signed anew."""

    def make(folder):
        found = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_bytes(signed({**found, **values}))

    return make


def instead(name, make):
    """Something else in the place of a file."""

    def do(folder):
        (folder / name).unlink()
        make(folder / name)

    return do


def npz(folder):
    path = folder / "a.npz"
    np.savez(path, x=np.array([Evil()], object))
    content = path.read_bytes()
    path.unlink()
    state(content)(folder)


def a_socket(path):
    with socket.socket(socket.AF_UNIX) as made:
        here = os.getcwd()
        os.chdir(path.parent)  # its path may have 107 bytes only
        try:
            made.bind(path.name)
        finally:
            os.chdir(here)


def linked_folder(folder):
    aside = folder.parent.parent / "elsewhere"
    os.rename(folder, aside)
    folder.symlink_to(aside)


def linked(name):
    def make(folder):
        aside = folder.parent.parent / f"elsewhere-{name}"
        os.rename(folder / name, aside)
        (folder / name).symlink_to(aside)

    return make


def sparse(folder):
    """A terabyte that takes no room, signed: reading it would take all memory, or for ever."""
    size = 1 << 40
    content = state_of({"x": told((size // 8,), offsets=(0, size))}, b"")
    (folder / "state.safetensors").write_bytes(content)
    os.truncate(folder / "state.safetensors", len(content) + size)
    changed(bytes=len(content) + size, arrays={"x": entry((size // 8,))})(folder)


HEAD = b'{"format":"1.0","generation":1,"bytes":8,"arrays":{},"meta":{'
JSON = {
    "NaN": b'"a":NaN',
    "Infinity": b'"a":-Infinity',
    "1e999": b'"a":1e999',
    "5,000 digits": b'"a":' + b"7" * 5000,
    "a float of 100,000 digits": b'"a":0.' + b"7" * 100_000 + b"e400",
    "deep nesting": b'"a":' + b"[" * 200_000,
    "deep nesting, closed": b'"a":' + b"[" * 900 + b"]" * 900,
    "deep tables": b'"a":' + b'{"a":' * 100_000,
    "a key twice": b'"a":1,"a":2',
    "a lone surrogate": b'"a":"\\ud800"',
    "a key that is a lone surrogate": b'"\\udc80":1',
    "invalid UTF-8": b'"a":"\xff\xfe"',
    "overlong UTF-8": b'"a":"\xc0\xaf"',
    "values without end": b'"a":[' + b"0," * 1_000_000 + b"0]",
    "tables without end": b'"a":[' + b"{}," * 199_000 + b"{}]",
    "a long text": b'"a":"' + b"x" * 4_100_000 + b'"',
    "keys without end": b",".join(b'"%x":0' % k for k in range(99_000)),
}
WRONG = (None, True, -1, 1.5, 10**30, "x", [], {}, [[]], {"": None})

CASES = {
    "a renamed pickle": state(pickle.dumps(Evil())),
    "a manifest that is a pickle": manifest(pickle.dumps(Evil(), protocol=0)),
    "an npz with a pickle": npz,
    "objects": both({"x": entry(dtype="object")}, {"x": told(dtype="O")}),
    "dtype of another format": both({"x": entry(dtype="bfloat16")}, {"x": told(dtype="BF16")}),
    "dtype with fields": both({"x": entry(dtype="f8,O")}, {"x": told(dtype="V")}),
    "dtype that is a list": both({"x": {**entry(), "dtype": ["float64"]}}, {"x": told()}),
    "dtype of a million": both({"x": {**entry(), "dtype": "V1000000000"}}, {"x": told()}),
    "a linked state": linked("state.safetensors"),
    "a linked manifest": linked("manifest.json"),
    "a linked generation": linked_folder,
    "a link to a device": instead("state.safetensors", lambda path: path.symlink_to("/dev/zero")),
    "a link to itself": instead("manifest.json", lambda path: path.symlink_to(path)),
    "a pipe for the state": instead("state.safetensors", os.mkfifo),
    "a pipe for the manifest": instead("manifest.json", os.mkfifo),
    "a socket": instead("state.safetensors", a_socket),
    "a folder for the state": instead("state.safetensors", Path.mkdir),
    "a folder for the manifest": instead("manifest.json", Path.mkdir),
    "an empty state": state(b""),
    "an empty manifest": manifest(b""),
    "a state of seven bytes": state(b"\1" * 7),
    "a header of 2**63 bytes": state(state_of({}, length=1 << 63)),
    "a header beyond the file": state(state_of({}, length=1000)),
    "a header of 5 MB": state(state_of(b'{"x":"' + b" " * 5_000_000 + b'"}')),
    "a header without end": state(state_of(b"[" * 3_000_000)),
    "a header that is a list": state(state_of([])),
    "a header with a key twice": state(state_of(b'{"variable/x":{},"variable/x":{}}')),
    "a header with NaN": state(state_of(b'{"variable/x":NaN}')),
    "a header with a byte order mark": state(state_of(b"\xef\xbb\xbf{}")),
    "a header with metadata": both({"x": entry()}, {"__metadata__": {"a": "b"}, "x": told()}),
    "overlapping offsets": both({"x": entry(), "y": entry()}, {"x": told(), "y": told()}),
    "offsets backwards": both({"x": entry()}, {"x": told(offsets=(24, 0))}),
    "a hole": both({"x": entry()}, {"x": told(offsets=(8, 32))}, b"\0" * 32),
    "bytes after the end": both({"x": entry()}, {"x": told()}, b"\0" * 32),
    "offsets that are floats": both({"x": entry()}, {"x": told(offsets=(0.0, 24.0))}),
    "offsets that are booleans": both({"x": entry((0,), data=b"")}, {"x": told((0,), offsets=(False, False))}, b""),
    "a negative shape": both({"x": entry((-3,))}, {"x": told((-3,))}),
    "two negative sizes": both({"x": entry((-3, -1))}, {"x": told((-3, -1))}),
    "a shape of floats": both({"x": entry((3.0,))}, {"x": told((3.0,))}),
    "a shape of booleans": both({"x": entry((True,), data=b"\0" * 8)}, {"x": told((True,), offsets=(0, 8))}, b"\0" * 8),
    "a shape that overflows": both({"x": entry((1 << 32, 1 << 32))}, {"x": told((1 << 32, 1 << 32))}),
    "a shape that comes to nothing": both(
        {"x": entry((1 << 59, 0, 1 << 59), data=b"")}, {"x": told((1 << 59, 0))}, b""
    ),
    "a shape of 10**30": both({"x": entry((10**30,))}, {"x": told((10**30,))}),
    "100,000 axes": both({"x": entry((1,) * 100_000)}, {"x": told((1,) * 100_000)}),
    "shape and bytes that differ": both({"x": entry((4,))}, {"x": told((4,))}),
    "shapes that differ": both({"x": entry((3, 1))}, {"x": told((1, 3))}),
    "a wrong digest": both({"x": entry(data=b"\1" * 24)}, {"x": told()}),
    "no digest": both({"x": {"dtype": "float64", "shape": [3]}}, {"x": told()}),
    "a digest that is a table": both({"x": {**entry(), "digest": {}}}, {"x": told()}),
    "a boolean that is 2": both({"x": entry((3,), "bool", b"\2\0\1")}, {"x": told((3,), "BOOL", (0, 3))}, b"\2\0\1"),
    "an entry that is a list": both({"x": []}, {"x": told()}),
    "an entry in the header that is a number": both({"x": entry()}, {"x": 7}),
    "a terabyte of nothing": sparse,
    "a newer format": changed(format="2.0"),
    "a format of 400 digits": changed(format="1" * 400 + ".0"),
    "a format in other digits": changed(format="١.٠"),
    "a format with a line break": changed(format="1.0\n"),
    "another generation": changed(generation=2),
    "a generation that is no integer": changed(generation=1.0),
    "another text of the same meaning": lambda folder: (folder / "manifest.json").write_text(
        json.dumps(json.loads((folder / "manifest.json").read_text()))
    ),
    "a byte order mark": lambda folder: (folder / "manifest.json").write_bytes(
        b"\xef\xbb\xbf" + (folder / "manifest.json").read_bytes()
    ),
    "a manifest in UTF-16": lambda folder: (folder / "manifest.json").write_text(
        (folder / "manifest.json").read_text(), encoding="utf-16"
    ),
    "a manifest of 64 MB": manifest(b" " * (64 << 20)),
    "a manifest that is a list": manifest(b"[]"),
    "a manifest that is a text": manifest(b'"x"'),
    **{f"JSON: {name}": manifest(HEAD + text + b"}}") for name, text in JSON.items()},
    **{f"{key} = {value!r:.20}": changed(**{key: value}) for key in ("arrays", "bytes", "format") for value in WRONG},
    **{f"meta = {value!r:.20}": changed(meta=value) for value in WRONG if not isinstance(value, dict)},
    **{f"an array = {value!r:.20}": changed(arrays={"variable/x": value}) for value in WRONG},
}
