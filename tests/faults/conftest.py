"""What the fault suite shares: its modules by name, since tests are no package."""

import importlib.util
import sys
import types
from pathlib import Path

HERE = Path(__file__).parent


def _load(name, path):
    if name not in sys.modules:
        specification = importlib.util.spec_from_file_location(name, path)
        sys.modules[name] = module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
    return sys.modules[name]


sys.modules.setdefault("tests_of_faults", types.ModuleType("tests_of_faults"))
# In this order: later ones use earlier ones.
NAMES = (
    "sampling",
    "bits",
    "clusters",
    "disk",
    "victim",
    "search_victim",
    "hostile_checkpoints",
    "hostile_studies",
    "hostile_histories",
)
for _name in NAMES:
    _load(f"tests_of_faults.{_name}", HERE / f"{_name}.py")
