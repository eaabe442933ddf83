"""The cache of machine code: read without the compiler, never trusted when damaged or open to others, never needed."""

from __future__ import annotations

import gc
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thalweg import rules
from thalweg.lowering import Batch, Part, address_of, objects
from thalweg.lowering import numpy as lowering

DOUBLE = np.dtype(np.float64)

SCRIPT = """
import hashlib, sys
import numpy as np
import thalweg as tw

rng = np.random.default_rng(3)
x = tw.Variable(rng.normal(size=1001).astype("f4"), name="x", needs_grad=True)
optimizer = tw.Adam(x, learning_rate=0.1)
for _ in range(10):
    tw.wait(optimizer.step(grad=rng.normal(size=1001).astype("f4")))
print("numba" in sys.modules, hashlib.sha256(x.data.tobytes()).hexdigest())
"""


def environment(**more: str) -> dict[str, str]:
    """Of a process that knows of no cache but the one it is told of."""
    ours = {"THALWEG_CACHE_DIR", "XDG_CACHE_HOME", "HOME", "NUMBA_CACHE_DIR"}
    return {name: value for name, value in os.environ.items() if name not in ours} | more


def start(folder: Path, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", SCRIPT],
        env=environment(PYTHONDONTWRITEBYTECODE="1", **more),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def said(process: subprocess.Popen[str]) -> list[str]:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert err == ""
    return out.split()


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


# ------------------------------------------------------------------ other processes


def test_a_second_process_does_without_the_compiler_and_gets_the_same_bits(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    compiled, bits = said(start(tmp_path, THALWEG_CACHE_DIR=str(cache), HOME=str(tmp_path / "home")))
    assert compiled == "True"
    (kernel,) = (cache / "kernels").iterdir()
    before = kernel.stat()
    assert stat.S_IMODE((cache / "kernels").stat().st_mode) == 0o700
    assert stat.S_IMODE(before.st_mode) == 0o600
    assert said(start(tmp_path, THALWEG_CACHE_DIR=str(cache), HOME=str(tmp_path / "home"))) == ["False", bits]
    after = kernel.stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)
    assert files(tmp_path) == {str(kernel.relative_to(tmp_path))}, "and nothing else is written"


def test_processes_may_fill_an_empty_cache_at_once(tmp_path: Path) -> None:
    several = [start(tmp_path, THALWEG_CACHE_DIR=str(tmp_path / "cache")) for _ in range(3)]
    found = [said(process) for process in several]
    assert len({bits for _, bits in found}) == 1
    (kernel,) = files(tmp_path)
    assert kernel.endswith(".o")
    assert said(start(tmp_path, THALWEG_CACHE_DIR=str(tmp_path / "cache"))) == ["False", found[0][1]]


@pytest.mark.parametrize(
    ("variables", "where"),
    [
        ({"HOME": "{0}/home"}, "home/.cache/thalweg/kernels"),
        ({"HOME": "{0}/home", "XDG_CACHE_HOME": "{0}/xdg"}, "xdg/thalweg/kernels"),
        ({"HOME": "{0}/home", "XDG_CACHE_HOME": "{0}/xdg", "THALWEG_CACHE_DIR": "{0}/own"}, "own/kernels"),
    ],
    ids=["home", "XDG", "own"],
)
def test_the_folder_is_where_it_is_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], where: str
) -> None:
    for name in ("THALWEG_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(tmp_path))
    assert objects.folder() == tmp_path / where
    objects.write("digest", b"code", "symbol")
    assert files(tmp_path) == {f"{where}/digest.o"}
    assert objects.read("digest") == (b"code", "symbol")


def test_without_a_home_it_compiles_all_the_same(tmp_path: Path) -> None:
    """A home that is a file stands for one that is read-only, which is no hindrance to root."""
    (tmp_path / "home").write_text("no folder")
    assert said(start(tmp_path, HOME=str(tmp_path / "home")))[0] == "True"
    assert files(tmp_path) == {"home"}


# ------------------------------------------------------------------ in this process


class Compiling:
    """A rule whose compilations are counted, in a cache of its own."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("THALWEG_CACHE_DIR", str(folder))
        self.rule = rules.decayed(rules.sgd)
        self.kernels = folder / "kernels"
        self.file = self.kernels / f"{lowering._digest(self.rule, DOUBLE)}.o"
        self.count = 0
        self.made = compiled()
        monkeypatch.setattr(lowering, "_compile", self.compile)

    def compile(self, *args: Any) -> tuple[bytes, str]:
        self.count += 1
        return self.made

    def use(self) -> int:
        """Run what the cache or the compiler gives; how often the compiler was asked."""
        before, x, g = self.count, np.ones(3), np.array([1.0, -1.0, 0.0])
        kernel = lowering.kernel_of.__wrapped__(self.rule, DOUBLE)
        batch = Batch(kernel, [Part(address_of(x), 3, ())])
        batch.set_grad(0, address_of(g))
        batch.set_hyper(0, self.rule.hyper(learning_rate=0.5), t=1)
        batch.step()
        assert x.tolist() == [0.5, 1.5, 1.0]
        return self.count - before


_COMPILED: list[tuple[bytes, str]] = []


def compiled() -> tuple[bytes, str]:
    """Machine code, compiled once for all of these tests."""
    if not _COMPILED:
        rule = rules.decayed(rules.sgd)
        _COMPILED.append(lowering._compile(rule, DOUBLE, lowering.shape_of(rule)))
    return _COMPILED[0]


@pytest.fixture
def compiling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compiling:
    return Compiling(tmp_path / "cache", monkeypatch)


def test_it_is_compiled_once(compiling: Compiling) -> None:
    assert [compiling.use() for _ in range(3)] == [1, 0, 0]
    assert objects.read(compiling.file.stem) == compiling.made


def flipped(place: Callable[[bytes], int]) -> Callable[[bytes], bytes]:
    def flip(content: bytes) -> bytes:
        changed = bytearray(content)
        changed[place(content)] ^= 0x10
        return bytes(changed)

    return flip


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut in the head": lambda content: content[:20],
    "cut in the symbol": lambda content: content[:60],
    "cut in the code": lambda content: content[: len(content) // 2],
    "a byte short": lambda content: content[:-1],
    "a byte long": lambda content: content + b"\0",
    "zeros": lambda content: bytes(len(content)),
    "a bit in the magic": flipped(lambda content: 3),
    "a bit in the check": flipped(lambda content: len(objects.MAGIC) + 5),
    "a bit in the symbol": flipped(lambda content: len(objects.MAGIC) + 40),
    "a bit in the code": flipped(lambda content: len(content) * 3 // 4),
    "the last bit": flipped(lambda content: len(content) - 1),
    "another version": lambda content: content.replace(b"kernel 1", b"kernel 2"),
    "not ASCII": lambda content: b"\xff\xfe" + content,
    "lines only": lambda content: b"\n\n\n\n",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=list(DAMAGES))
def test_what_is_damaged_is_compiled_again_and_never_run(
    compiling: Compiling, damage: Callable[[bytes], bytes]
) -> None:
    compiling.use()
    whole = compiling.file.read_bytes()
    compiling.file.write_bytes(damage(whole))
    assert objects.read(compiling.file.stem) is None
    assert compiling.use() == 1
    assert compiling.file.read_bytes() == whole, "and repaired"
    assert compiling.use() == 0


def test_any_bit_that_flips_is_seen(compiling: Compiling) -> None:
    print("seed 4")
    rng = np.random.default_rng(4)
    compiling.use()
    whole = compiling.file.read_bytes()
    for place in [*range(len(objects.MAGIC) + 80), *rng.integers(0, len(whole), 200)]:
        changed = bytearray(whole)
        changed[place] ^= 1 << int(rng.integers(8))
        compiling.file.write_bytes(bytes(changed))
        assert objects.read(compiling.file.stem) is None, place


def test_a_function_that_is_not_in_it_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="holds no function 'missing'"):
        objects.Loaded(compiled()[0], "missing")


# ------------------------------------------------------------------ folders that cannot be trusted


@pytest.mark.parametrize("mode", [0o770, 0o720, 0o707, 0o702, 0o777], ids=oct)
def test_a_folder_that_others_may_write_to_is_not_used(compiling: Compiling, mode: int) -> None:
    """What lies there would be executed."""
    compiling.use()
    compiling.kernels.chmod(mode)
    assert objects.folder() is None
    before = compiling.file.read_bytes(), compiling.file.stat().st_mtime_ns
    assert compiling.use() == 1
    assert (compiling.file.read_bytes(), compiling.file.stat().st_mtime_ns) == before
    assert len(files(compiling.kernels)) == 1
    compiling.kernels.chmod(0o755)  # to read it is another matter
    assert compiling.use() == 0


def test_a_folder_of_another_user_is_not_used(compiling: Compiling, monkeypatch: pytest.MonkeyPatch) -> None:
    compiling.use()
    with monkeypatch.context() as patch:
        patch.setattr(os, "getuid", lambda: compiling.kernels.stat().st_uid + 1)
        assert objects.folder() is None
        assert compiling.use() == 1
    assert compiling.use() == 0


def test_a_link_is_not_followed(compiling: Compiling, tmp_path: Path) -> None:
    compiling.use()
    elsewhere = compiling.kernels.rename(tmp_path / "elsewhere")
    compiling.kernels.symlink_to(elsewhere, target_is_directory=True)
    assert objects.folder() is None
    assert compiling.use() == 1


def test_a_file_in_its_place_is_not_used(compiling: Compiling) -> None:
    compiling.kernels.parent.mkdir()
    compiling.kernels.write_text("a file")
    assert objects.folder() is None
    assert compiling.use() == 1
    assert compiling.kernels.read_text() == "a file"


def test_the_umask_does_not_open_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THALWEG_CACHE_DIR", str(tmp_path / "cache"))
    before = os.umask(0)
    try:
        kernels = objects.folder()
        objects.write("digest", b"code", "symbol")
    finally:
        os.umask(before)
    assert kernels is not None
    assert stat.S_IMODE(kernels.stat().st_mode) == 0o700
    assert stat.S_IMODE((kernels / "digest.o").stat().st_mode) == 0o600


# ------------------------------------------------------------------ a place that fails


@pytest.mark.parametrize(
    "error", [PermissionError(13, "denied"), OSError(30, "read-only"), OSError(28, "full")], ids=str
)
def test_where_no_folder_can_be_made_it_compiles_all_the_same(
    compiling: Compiling, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    monkeypatch.setattr(Path, "mkdir", fail)
    assert compiling.use() == 1
    assert not compiling.kernels.parent.exists()


def test_without_a_home_folder_there_is_no_cache(compiling: Compiling, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("THALWEG_CACHE_DIR")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert objects.folder() is None
    assert compiling.use() == 1


@pytest.mark.parametrize("what", ["replace", "write"])
def test_a_full_disk_leaves_nothing_half_written(
    compiling: Compiling, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    import tempfile

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        if what == "replace":
            patch.setattr(os, "replace", full)
        else:
            named = tempfile.NamedTemporaryFile

            def broken(*args: Any, **kwargs: Any) -> Any:
                file = named(*args, **kwargs)
                file.write = full  # and the file is there
                return file

            patch.setattr(tempfile, "NamedTemporaryFile", broken)
        assert compiling.use() == 1
    assert files(compiling.kernels) == set()
    assert [compiling.use() for _ in range(2)] == [1, 0]


def test_what_a_killed_process_left_does_no_harm(compiling: Compiling) -> None:
    compiling.kernels.mkdir(parents=True, mode=0o700)
    (compiling.kernels / ".writing-abc").write_bytes(b"thalweg kernel 1\nhalf")
    assert [compiling.use() for _ in range(2)] == [1, 0]


# ------------------------------------------------------------------ the processor


def test_code_for_any_processor_computes_the_same(tmp_path: Path) -> None:
    """A folder that several machines share: each has its own, and a pinned processor is everyone's."""
    generic = [
        said(start(tmp_path, THALWEG_CACHE_DIR=str(tmp_path), NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES=""))
        for _ in range(2)
    ]
    assert [compiler for compiler, _ in generic] == ["True", "False"]
    assert generic[0][1] == generic[1][1]
    assert said(start(tmp_path, THALWEG_CACHE_DIR=str(tmp_path)))[0] == "True"
    assert len(files(tmp_path)) == 2


def test_code_outlives_what_loaded_it() -> None:
    """A batch holds the kernel, and the kernel the memory of its code."""
    rule = rules.decayed(rules.sgd)
    x, g = np.ones(2), np.ones(2)

    def make() -> Batch:
        kernel = lowering.Kernel(rule, DOUBLE, lowering.shape_of(rule), objects.Loaded(*compiled()))
        return Batch(kernel, [Part(address_of(x), 2, ())])

    batch = make()
    gc.collect()
    batch.set_grad(0, address_of(g))
    batch.set_hyper(0, rule.hyper(learning_rate=0.5), t=1)
    batch.step()
    assert x.tolist() == [0.5, 0.5]


# ------------------------------------------------------------------ what a process spends before its first step


def test_numba_says_its_version_without_being_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata
    from types import SimpleNamespace

    version = importlib.metadata.version("numba")
    assert version in objects.numba_release()
    elsewhere = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(objects, "find_spec", lambda name: elsewhere)
    assert objects.numba_release() == version, "a numba without that file"
    (tmp_path / "_version.py").write_text("9.9")
    assert objects.numba_release() == "9.9"


FIRST = """
import subprocess, sys
import thalweg as tw, numpy as np
x = tw.Variable(np.ones(10, np.float32), name="x", needs_grad=True)
if "again" in sys.argv:
    subprocess.Popen = None  # no process is started
tw.wait(tw.Adam(x).step(grad=np.ones(10, np.float32)))
print(sorted({"numba", "numpy.ma", "importlib.metadata", "scipy", "ctypes.util"} & set(sys.modules)))
"""


def test_a_second_process_imports_and_starts_nothing_that_it_does_not_need(tmp_path: Path) -> None:
    said = [
        subprocess.run(
            [sys.executable, "-c", FIRST, which],
            env={**os.environ, "THALWEG_CACHE_DIR": str(tmp_path)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        for which in ("first", "again")
    ]
    assert "numba" in said[0]
    assert said[1] == "[]"
