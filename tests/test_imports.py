"""What an import brings and leaves alone, and which part of the library may know which."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "thalweg"

HEAVY = (
    *("numba", "scipy", "pydantic", "matplotlib", "rich", "typer", "sqlite3", "safetensors", "threadpoolctl"),
    *("torch", "jax", "pytensor", "distributed", "optuna", "httpx", "jsonschema"),
)

# DESIGN §2: imports point upwards in the order of ideas. Each part, and the parts that it may know.
MAY_KNOW: dict[str, set[str]] = {
    "errors": set(),
    "graph": {"errors"},
    "rules": {"errors"},
    "lowering": {"errors", "rules"},
    "schedules": {"errors", "rules"},
    "transforms": {"errors", "rules"},
    "checkpoints": {"errors"},
    "optimizers": {"errors", "graph", "rules", "lowering", "schedules", "transforms", "checkpoints"},
    "lm": {"errors", "graph", "checkpoints"},
    "search": {"errors", "graph", "rules", "schedules", "checkpoints", "optimizers", "lm"},
    "runtime": {"errors", "graph", "lowering"},
    "runs": {"errors", "graph", "rules", "schedules", "transforms", "checkpoints", "optimizers", "search", "runtime"},
    "problems": {
        "errors",
        "graph",
        "rules",
        "schedules",
        "transforms",
        "optimizers",
        "search",
        "lm",
        "runtime",
        "runs",
    },
    "dialects": {"errors", "graph", "rules", "schedules", "transforms", "optimizers", "search"},
    "cli": {"errors", "runs"},
    "__main__": {"cli"},
    "__init__": {"errors", "graph", "rules", "schedules", "transforms", "optimizers"},
}


def python(code: str, **environment: str) -> str:
    """What a fresh interpreter prints; warnings are errors there, too."""
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def parts_known_by(path: Path) -> set[tuple[str, int]]:
    """The parts of the library that a file imports anywhere, also inside functions, with the lines."""
    module = ["thalweg", *path.relative_to(SOURCE).with_suffix("").parts]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = [*module[: -node.level], node.module or ""] if node.level else [node.module or ""]
            base = ".".join(part for part in start if part)
            names = [f"{base}.{alias.name}" for alias in node.names] if base == "thalweg" else [base]
        found |= {(name.split(".")[1], node.lineno) for name in names if name.startswith("thalweg.")}
        if "thalweg" in names:
            found.add(("__init__", node.lineno))
    return found


def test_importing_thalweg_imports_nothing_heavy():
    modules = json.loads(python("import sys, json, thalweg; print(json.dumps(sorted(sys.modules)))"))
    loaded = {name.partition(".")[0] for name in modules}
    assert "numpy" in loaded
    assert not loaded & set(HEAVY), f"import thalweg imports {sorted(loaded & set(HEAVY))}"


def test_help_imports_only_the_command_line():
    code = (
        "import sys, json, thalweg.cli\n"
        "try:\n    thalweg.cli.app(['--help'])\nexcept SystemExit:\n    pass\n"
        "print('\\n' + json.dumps(sorted(sys.modules)))"
    )
    modules = json.loads(python(code).splitlines()[-1])
    loaded = {name.partition(".")[0] for name in modules}
    assert not loaded & (set(HEAVY) - {"rich", "typer"})


def test_importing_thalweg_leaves_the_process_alone(tmp_path):
    code = """
import asyncio, json, logging, os, random, signal, sys, threading, warnings
import numpy as np

def umask():
    present = os.umask(0)
    os.umask(present)
    return present

def state():
    handlers = {int(s): repr(signal.getsignal(s)) for s in signal.valid_signals()}
    drawn = [repr(random.getstate()), repr(np.random.get_state())]
    hooks = [repr(sys.excepthook), repr(sys.displayhook), repr(threading.excepthook), repr(warnings.showwarning)]
    return {
        "signals": handlers, "cwd": os.getcwd(), "environment": dict(os.environ), "umask": umask(),
        "random": drawn, "hooks": hooks, "filters": repr(warnings.filters), "threads": threading.active_count(),
        "errors": repr(np.geterr()), "print": repr(np.get_printoptions()), "logging": repr(logging.root.handlers),
        "policy": repr(type(asyncio.get_event_loop_policy())), "path": list(sys.path),
    }

before = state()
import thalweg
import thalweg.dialects.stride
after = state()
print(json.dumps({key: [before[key], after[key]] for key in before if before[key] != after[key]}))
"""
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    environment = {
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    process = subprocess.run(
        # The policy of asyncio is deprecated from Python 3.14 on, and reading it warns.
        [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning:__main__", "-c", code],
        env={**os.environ, **environment},
        cwd=work,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout) == {}
    assert not process.stderr
    assert list(home.iterdir()) == []
    assert list(work.iterdir()) == []


def test_every_part_is_in_the_table():
    parts = {path.stem for path in SOURCE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert parts == MAY_KNOW.keys()


@pytest.mark.parametrize("part", MAY_KNOW)
def test_imports_only_point_upwards(part):
    folder = SOURCE / part
    files = sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]
    faults = [
        f"{path.relative_to(SOURCE.parent)}:{line} imports thalweg.{known}"
        for path in files
        for known, line in sorted(parts_known_by(path))
        if known != part and known not in MAY_KNOW[part]
    ]
    assert not faults, "\n".join(faults)


def test_no_module_answers_for_names_that_it_does_not_have():
    lazy = [
        path
        for path in SOURCE.rglob("*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name in ("__getattr__", "__dir__")
    ]
    assert not lazy
