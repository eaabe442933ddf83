"""What two runs must agree in."""

import hashlib
import json

from thalweg.checkpoints import CheckpointStore
from thalweg.runs import History


def fingerprint(folder):
    """What a run is: parameters and optimizer, generators and selection, and the history without its times."""
    arrays, meta, _ = CheckpointStore(folder / "checkpoints").load()
    history = History(folder)
    columns = {name: column.tolist() for name, column in history.iterations().items() if name != "seconds"}
    parts = {
        "arrays": {name: hashlib.blake2b(array.tobytes()).hexdigest() for name, array in sorted(arrays.items())},
        "meta": meta,
        "history": [columns, history.batches()],
        "digest": json.loads((folder / "summary.json").read_text())["digest"],
    }
    return {
        part: hashlib.blake2b(json.dumps(value, sort_keys=True).encode()).hexdigest() for part, value in parts.items()
    }


def bits(arrays):
    """Arrays as what they are on the disk."""
    return {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in arrays.items()}
