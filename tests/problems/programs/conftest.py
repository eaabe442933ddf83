"""What the tests of programs share."""

import importlib.util
import sys
from pathlib import Path

_path = Path(__file__).with_name("labels.py")
_specification = importlib.util.spec_from_file_location("program_labels_for_tests", _path)
_module = importlib.util.module_from_spec(_specification)
sys.modules[_specification.name] = _module
_specification.loader.exec_module(_module)
