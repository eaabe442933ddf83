"""Every truncation and every flipped bit is found, and the generation before still loads."""

import json
import random
import shutil

import numpy as np
import pytest

from tests.sampling import ALL, sample
from thalweg.checkpoints import CheckpointStore
from thalweg.errors import CheckpointCorruptError, CheckpointError, CheckpointVersionError

FILES = ("manifest.json", "state.safetensors")


@pytest.fixture
def small(tmp_path):
    """Two generations; the second holds what a text hides most easily: numbers of many digits, escapes, zeros."""
    store = CheckpointStore(tmp_path / "store")
    store.save({"x": np.arange(3.0)}, {"iteration": 1})
    arrays = {"x": np.array([0.1, -0.0, np.nan]), "flags": np.array([True, False]), "é\x1f": np.zeros((0, 2), "i2")}
    store.save(
        arrays, {"iteration": 2, "misfit": 0.30000000000000004, "tiny": 5e-324, "small": 1e-05, "n": -7, "t": "\x1f"}
    )
    return store


@pytest.fixture
def large(tmp_path):
    store = CheckpointStore(tmp_path / "store")
    store.save({"x": np.arange(3.0)}, {"iteration": 1})
    rng = np.random.default_rng(1)
    arrays = {f"slots/{k}": rng.standard_normal((50, 40)).astype(rng.choice(["f4", "f8"])) for k in range(40)}
    store.save(arrays, {"iteration": 2, "generator": np.random.default_rng(2).bit_generator.state})
    return store


def found(store, name, entry_too=True):
    """The error that a damaged second generation comes to; it names the file, and the first loads all the same."""
    with pytest.raises(CheckpointError) as caught:
        store.load(2)
    error = caught.value
    assert isinstance(error, CheckpointCorruptError | CheckpointVersionError), error
    assert error.details["file"].endswith(f"000002/{name}"), error
    assert error.details["file"] in str(error)
    return error


def the_first_loads(store):
    arrays, meta, number = store.load(1)
    assert (arrays["x"].tobytes(), meta, number) == (np.arange(3.0).tobytes(), {"iteration": 1}, 1)


@pytest.mark.parametrize("name", FILES)
def test_every_truncation_of_a_small_checkpoint(small, name):
    path = small.folder / "000002" / name
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        found(small, name)
    for more in (b"\0", b" ", b"\n", whole):
        path.write_bytes(whole + more)
        found(small, name)
    the_first_loads(small)
    path.write_bytes(whole)
    small.load(2)


@pytest.mark.parametrize("name", FILES)
def test_every_flipped_bit_of_a_small_checkpoint(small, name):
    path = small.folder / "000002" / name
    whole = path.read_bytes()
    for place in range(len(whole)):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << bit
            path.write_bytes(damaged)
            found(small, name)
    the_first_loads(small)
    path.write_bytes(whole)
    small.load(2)


def test_sampled_flips_of_a_larger_checkpoint(large):
    """Of both files, by their sizes; where an array is hit, the error names it."""
    contents = {name: (large.folder / "000002" / name).read_bytes() for name in FILES}
    header = int.from_bytes(contents["state.safetensors"][:8], "little") + 8
    offsets = {
        name: entry["data_offsets"] for name, entry in json.loads(contents["state.safetensors"][8:header]).items()
    }
    rng = random.Random(20261124)
    named = 0
    for _ in range(10_000 if ALL else 400):
        name = rng.choices(FILES, [len(contents[name]) for name in FILES])[0]
        place = rng.randrange(len(contents[name]))
        path = large.folder / "000002" / name
        with open(path, "r+b") as file:
            file.seek(place)
            file.write(bytes([contents[name][place] ^ 1 << rng.randrange(8)]))
        error = found(large, name)
        if name == "state.safetensors" and place >= header:
            (hit,) = [entry for entry, (a, b) in offsets.items() if a <= place - header < b]
            assert error.details["entry"] == hit
            assert repr(hit) in str(error)
            named += 1
        with open(path, "r+b") as file:
            file.seek(place)
            file.write(contents[name][place : place + 1])
    assert named > 100
    the_first_loads(large)
    large.load(2)


def test_lengths_of_a_larger_checkpoint(large):
    path = large.folder / "000002" / "state.safetensors"
    whole = path.read_bytes()
    for length in sample(range(len(whole)), 200, seed=3)[:: 1 if not ALL else 97]:
        path.write_bytes(whole[:length])
        found(large, "state.safetensors")
    the_first_loads(large)


def test_parts_of_two_generations_do_not_mix(large):
    for name in FILES:
        shutil.copy(large.folder / "000002" / name, large.folder / f"kept-{name}")
        shutil.copy(large.folder / "000001" / name, large.folder / "000002" / name)
        found(large, name)
        shutil.copy(large.folder / f"kept-{name}", large.folder / "000002" / name)
    large.load(2)
