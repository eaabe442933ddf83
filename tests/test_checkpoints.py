from __future__ import annotations

import json
import os
import shutil
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thalweg.checkpoints import CheckpointStore, canonical
from thalweg.checkpoints import store as store_module
from thalweg.checkpoints.manifest import digest, render
from thalweg.checkpoints.tensors import CODES
from thalweg.errors import CheckpointCorruptError, CheckpointError, CheckpointVersionError

ARRAYS = {
    "slots/mean/vp": np.arange(6, dtype=np.float32).reshape(2, 3),
    "empty": np.zeros((0, 4)),
    "single": np.array(2.5),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "swapped": np.arange(4, dtype=">i4"),
    "flags": np.array([True, False]),
    "not finite": np.array([np.nan, np.inf, -0.0]),
    "ümlaut / with spaces": np.array([1], np.uint8),
}
META = {"iteration": 12, "rng": {"state": 2**127 + 1}, "η": 0.1, "list": [1, None, "x"]}


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "new" / "folder")
    path = store.save(ARRAYS, META)
    assert path.name == "000001"
    assert sorted(entry.name for entry in path.iterdir()) == ["manifest.json", "state.safetensors"]
    arrays, meta, generation = store.load()
    assert (meta, generation) == (META, 1)
    assert arrays.keys() == ARRAYS.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, ARRAYS[name])
        assert array.dtype == ARRAYS[name].dtype.newbyteorder("=")
        assert array.flags.writeable


def test_generations_are_numbered_loaded_and_pruned(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    for step in range(4):
        store.save({"x": np.array([float(step)])}, {"step": step})
    store.save({}, {"step": 40}, generation=40)
    assert store.generations() == [1, 2, 3, 4, 40]
    assert store.load(2)[1] == {"step": 1}
    assert store.load()[1:] == ({"step": 40}, 40)
    assert store.prune(2) == [1, 2, 3]
    assert store.generations() == [4, 40]
    store.save({}, {"step": 41}, generation=4)  # one that exists is replaced whole
    assert store.load(4)[:2] == ({}, {"step": 41})


def test_a_copied_or_moved_folder_loads(tmp_path: Path) -> None:
    CheckpointStore(tmp_path / "a").save(ARRAYS, META)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    os.rename(tmp_path / "a", tmp_path / "c")
    for name in "bc":
        assert CheckpointStore(tmp_path / name).load()[1] == META


def test_files_get_ordinary_permissions(tmp_path: Path) -> None:
    path = CheckpointStore(tmp_path).save({}, {})
    (tmp_path / "reference").mkdir()
    assert path.stat().st_mode == (tmp_path / "reference").stat().st_mode


def test_nothing_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no generation in"):
        CheckpointStore(tmp_path / "nowhere").load()
    store = CheckpointStore(tmp_path)
    store.save({}, {})
    with pytest.raises(CheckpointError, match=r"no generation 7 .*there are: 1"):
        store.load(7)
    with pytest.raises(CheckpointError, match="at least 1"):
        store.prune(0)


@pytest.mark.parametrize(
    ("arrays", "meta"),
    [
        ({"x": np.array([object()])}, {}),
        ({"x": np.array(["text"])}, {}),
        ({"x": np.zeros(2, np.complex128)}, {}),
        ({"x": np.zeros(2, [("a", int)])}, {}),
        ({"x": np.ma.masked_array([1.0], [True])}, {}),
        ({"x": [1.0]}, {}),
        ({"__metadata__": np.zeros(1)}, {}),
        ({"\udc80": np.zeros(1)}, {}),
        ({}, {"\udc80": 1}),
        ({}, {"loss": float("nan")}),
        ({}, {"x": object()}),
        ({}, {1: 2}),
        ({}, {"a": (1, 2)}),
    ],
)
def test_what_cannot_be_saved_is_refused_before_the_disk_is_touched(
    tmp_path: Path, arrays: dict[str, Any], meta: dict[str, Any]
) -> None:
    with pytest.raises(CheckpointError):
        CheckpointStore(tmp_path / "store").save(arrays, meta)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("generation", [-1, True, 10**12, 10**400, 5.5, 1.0, "1", [1]])
def test_generations_are_counts(tmp_path: Path, generation: Any) -> None:
    store = CheckpointStore(tmp_path)
    with pytest.raises(CheckpointError, match="generation"):
        store.save({}, {}, generation=generation)
    assert store.generations() == []
    store.save({}, {})
    with pytest.raises(CheckpointError, match="generation"):
        store.load(generation)
    store.save({}, {"second": True}, generation=np.int64(2))
    assert store.load(np.int64(2)) == ({}, {"second": True}, 2)


@pytest.mark.parametrize("keep", [1.5, True, None, "1", 0, -1])
def test_what_is_no_count_prunes_nothing(tmp_path: Path, keep: Any) -> None:
    store = CheckpointStore(tmp_path)
    for _ in range(2):
        store.save({}, {})
    with pytest.raises(CheckpointError, match="keep is"):
        store.prune(keep)
    assert store.generations() == [1, 2]


@pytest.mark.parametrize("step", ["write_state", "flush_folder", "write_manifest"])
def test_a_failed_save_leaves_the_earlier_generations_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    store = CheckpointStore(tmp_path)
    store.save(ARRAYS, META)

    def fail(*args: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store_module, step, fail)
        with pytest.raises(CheckpointError, match="no space left"):
            store.save(ARRAYS, {"step": 2}, generation=1)
    assert [entry.name for entry in tmp_path.iterdir()] == ["000001"]
    assert store.load()[1] == META


def test_a_generation_that_cannot_be_replaced_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = CheckpointStore(tmp_path)
    store.save(ARRAYS, META)
    rename = os.rename

    def fail(old: Path, new: Path) -> None:
        if (Path(old) / "manifest.json").exists() and "2" in json.loads((old / "manifest.json").read_text())["meta"]:
            raise OSError("no")
        rename(old, new)

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(CheckpointError, match="cannot save"):
        store.save({}, {"2": 2}, generation=1)
    assert [entry.name for entry in tmp_path.iterdir()] == ["000001"]
    assert store.load()[1] == META


def test_what_a_killed_save_left_is_removed_by_the_next(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    (tmp_path / ".writing-0123").mkdir()
    (tmp_path / ".writing-0123" / "state.safetensors").write_bytes(b"half")
    assert store.generations() == []
    store.save({}, {})
    assert [entry.name for entry in tmp_path.iterdir()] == ["000001"]


def test_the_order_is_files_then_name_then_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    fsync, rename = os.fsync, os.rename

    def note_fsync(descriptor: int) -> None:
        log.append("flush " + Path(os.readlink(f"/proc/self/fd/{descriptor}")).name.split("-")[0])
        fsync(descriptor)

    def note_rename(old: Path, new: Path) -> None:
        log.append("rename")
        rename(old, new)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "rename", note_rename)
    CheckpointStore(tmp_path / "store").save({"x": np.zeros(1)}, {})
    assert log == [
        f"flush {tmp_path.name}",
        "flush state.safetensors",
        "flush manifest.json",
        "flush .writing",
        "rename",
        "flush store",
    ]


def edit(path: Path, change: Callable[[dict[str, Any]], None], *, sign: bool = False) -> None:
    """Change a manifest, with its digest made anew or not."""
    manifest = json.loads(path.read_text())
    change(manifest)
    if sign:
        manifest.pop("digest")
        manifest["digest"] = digest(canonical(manifest))
    path.write_text(render(manifest))


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 0x10
    path.write_bytes(content)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a flipped bit in an array": (lambda g: flip(g / "state.safetensors", -1), "state.safetensors entry"),
    "a flipped bit in the header": (lambda g: flip(g / "state.safetensors", 12), "state.safetensors"),
    "a truncated state": (lambda g: os.truncate(g / "state.safetensors", 20), "state.safetensors has 20 bytes"),
    "an empty state": (lambda g: (g / "state.safetensors").write_bytes(b""), "state.safetensors has 0 bytes"),
    "no state": (lambda g: (g / "state.safetensors").unlink(), "state.safetensors is missing"),
    "no manifest": (lambda g: (g / "manifest.json").unlink(), "manifest.json is missing"),
    "a torn manifest": (lambda g: os.truncate(g / "manifest.json", 30), "manifest.json is not JSON"),
    "an edited manifest": (
        lambda g: edit(g / "manifest.json", lambda m: m["meta"].update(iteration=13)),
        "manifest.json does not match its own digest",
    ),
    "NaN in the manifest": (
        lambda g: (g / "manifest.json").write_text('{"format": "1.0", "meta": NaN}'),
        "manifest.json is not JSON",
    ),
    "deep nesting": (lambda g: (g / "manifest.json").write_text("[" * 100_000), "manifest.json is not JSON"),
    "no format": (lambda g: edit(g / "manifest.json", lambda m: m.pop("format")), "no format version"),
    "an entry too few": (
        lambda g: edit(g / "manifest.json", lambda m: m["arrays"].pop("single"), sign=True),
        "entry 'single' is not in the manifest",
    ),
    "an entry too many": (
        lambda g: edit(g / "manifest.json", lambda m: m["arrays"].update(more=m["arrays"]["single"]), sign=True),
        "entry 'more' is missing",
    ),
    "two entries exchanged": (
        lambda g: edit(g / "manifest.json", lambda m: m["arrays"].update(single=m["arrays"]["empty"]), sign=True),
        "entry 'single' is .* and by the manifest",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named_and_nothing_is_fallen_back_to(tmp_path: Path, damage: str) -> None:
    store = CheckpointStore(tmp_path)
    store.save({"x": np.zeros(1)}, {"step": 0})
    generation = store.save(ARRAYS, META)
    harm, words = DAMAGE[damage]
    harm(generation)
    with pytest.raises(CheckpointCorruptError, match=words) as caught:
        store.load()
    assert "000002" in caught.value.details["file"]
    assert store.load(1)[1] == {"step": 0}


def test_files_of_two_generations_do_not_mix(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    for step in range(2):
        store.save({"x": np.array([float(step)])}, {"step": step})
    shutil.copy(tmp_path / "000001" / "state.safetensors", tmp_path / "000002" / "state.safetensors")
    with pytest.raises(CheckpointCorruptError, match="entry 'x'"):
        store.load()
    shutil.copy(tmp_path / "000001" / "manifest.json", tmp_path / "000002" / "manifest.json")
    with pytest.raises(CheckpointCorruptError, match="generation 1"):
        store.load()


def test_links_are_not_followed(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "store")
    generation = store.save({"x": np.zeros(1)}, {})
    (tmp_path / "store" / "000002").symlink_to(generation, target_is_directory=True)
    with pytest.raises(CheckpointCorruptError, match="symbolic link"):
        store.load()
    os.rename(generation / "state.safetensors", tmp_path / "elsewhere")
    (generation / "state.safetensors").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointCorruptError, match="regular file"):
        store.load(1)
    store.prune(1)  # the link is the newest; only what is pruned goes
    assert (tmp_path / "elsewhere").exists()


def test_a_newer_major_version_says_so_and_a_newer_minor_one_loads(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    path = store.save({}, {"step": 1}) / "manifest.json"
    edit(path, lambda m: m.update(format="1.7"), sign=True)
    assert store.load()[1] == {"step": 1}
    edit(path, lambda m: m.update(format="2.0"))
    with pytest.raises(CheckpointVersionError, match=r"format 2\.0"):
        store.load()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot save"):
        CheckpointStore(tmp_path / "file").save({}, {})


def test_canonical_json_is_one_text() -> None:
    assert canonical({"b": 0.1, "a": "ä"}) == '{"a":"ä","b":0.1}'.encode()


def test_the_state_is_a_safetensors_file_that_others_read(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    path = CheckpointStore(tmp_path).save(ARRAYS, {}) / "state.safetensors"
    found = load_file(path)
    assert found.keys() == ARRAYS.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array, ARRAYS[name])


GOLDEN = Path(__file__).parent / "data" / "run-0.1" / "checkpoints"
"""Written by version 0.1, through the safetensors library; read for ever."""


def test_the_checkpoints_of_version_0_1_are_read(tmp_path: Path) -> None:
    store = CheckpointStore(GOLDEN)
    assert [store.meta(number)["iteration"] for number in store.generations()] == [2, 4, 5]
    arrays, meta, _ = store.load(3)
    assert set(meta) == {"iteration", "block", "block_iteration", "selection", "optimizer", "seed"}
    np.random.default_rng().bit_generator.state = meta["selection"]["generator"]
    assert {name: (array.dtype.name, array.shape) for name, array in arrays.items()} == dict.fromkeys(
        ("optimizer/slots/mean/x", "optimizer/slots/mean_square/x", "variable/x"), ("float64", (16,))
    )
    with np.load(GOLDEN.parent / "result.npz") as result:
        assert arrays["variable/x"].tobytes() == result["x"].tobytes()


@pytest.mark.parametrize("way", ["copy", "move", "tar", "zip"])
def test_a_folder_loads_wherever_it_is_taken(tmp_path: Path, way: str) -> None:
    store = CheckpointStore(tmp_path / "a" / "checkpoints")
    for step in range(3):
        store.save(ARRAYS, {**META, "iteration": step})
    source, target = tmp_path / "a", tmp_path / "b"
    if way == "copy":
        shutil.copytree(source, target)
    elif way == "move":
        shutil.move(source, target)
    else:
        packed = shutil.make_archive(str(tmp_path / "packed"), way, source)
        extra = {"filter": "data"} if way == "tar" and hasattr(tarfile, "data_filter") else {}
        shutil.unpack_archive(packed, target, **extra)
    moved = CheckpointStore(target / "checkpoints")
    assert moved.generations() == [1, 2, 3]
    for number in moved.generations():
        arrays, meta, _ = moved.load(number)
        assert meta == {**META, "iteration": number - 1}
        for name, array in ARRAYS.items():
            assert arrays[name].tobytes() == np.ascontiguousarray(array).astype(arrays[name].dtype).tobytes()


def test_generations_that_are_spared_stay(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    for _ in range(6):
        store.save({}, {})
    assert store.prune(2, spare={1, 3}) == [2, 4]
    assert store.generations() == [1, 3, 5, 6]


def test_other_names_are_no_generations(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    store.save({}, {})
    for name in ("١٢٣٤٥٦", "0000001", "00001", "000002x", "9" * 40, ".writing-1"):
        (tmp_path / name).mkdir()
    assert store.generations() == [1]


WRITTEN = Path(__file__).parent / "data" / "checkpoint-1.0"
"""Written by this format's writer, of every dtype and with what a text hides most easily; read for ever."""


def golden() -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What is in it, made anew."""
    values = [0, 1, 2, 255]
    arrays = {name: np.array(values).astype(name) for name in sorted(CODES)}
    arrays |= {
        "shapes/none": np.zeros((0, 3)),
        "shapes/single": np.array(-0.0),
        "shapes/three": np.arange(24, dtype="f4").reshape(2, 3, 4),
        "not finite": np.array([np.nan, np.inf, -np.inf, 5e-324]),
        "ümlaut / 漢字 \x1f": np.array([7], "u1"),
    }
    meta = {
        "iteration": 7,
        "misfit": 0.30000000000000004,
        "tiny": 5e-324,
        "text": 'é\x1f"\\/\u2028',
        "generator": np.random.Generator(np.random.PCG64(3)).bit_generator.state,
        "nested": {"list": [1, None, True, [], {}, -1.5e300]},
    }
    return arrays, meta


def test_the_golden_checkpoint_is_read_and_written_to_the_same_bytes(tmp_path: Path) -> None:
    expected, meta = golden()
    arrays, found, number = CheckpointStore(WRITTEN).load()
    assert (found, number) == (meta, 1)
    assert arrays.keys() == expected.keys()
    for name, array in arrays.items():
        assert (array.dtype, array.shape) == (expected[name].dtype, expected[name].shape)
        assert array.tobytes() == expected[name].tobytes(), name
    path = CheckpointStore(tmp_path).save(expected, meta)
    for file in ("manifest.json", "state.safetensors"):
        assert (path / file).read_bytes() == (WRITTEN / "000001" / file).read_bytes(), file


def test_who_saves_and_who_prunes_do_not_disturb_each_other(tmp_path: Path) -> None:
    """What is being removed is not taken for what a killed save has left."""
    CheckpointStore(tmp_path).save({}, {"step": 0})
    faults: list[BaseException] = []

    def work(one: Callable[[], Any]) -> None:
        try:
            for _ in range(60):
                one()
        except BaseException as error:
            faults.append(error)

    saver, pruner = CheckpointStore(tmp_path), CheckpointStore(tmp_path)
    arrays = {"x": np.zeros(3)}
    threads = [
        threading.Thread(target=work, args=(lambda: saver.save(arrays, {}),)),
        threading.Thread(target=work, args=(lambda: pruner.prune(1),)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    pruner.prune(1)
    assert [path.name for path in tmp_path.iterdir()] == ["000061"]
