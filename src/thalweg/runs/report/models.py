"""The variables over the run: after each block, as they are now, and beside them what the result holds of the same
shape (a start, a truth).

Whatever was optimized can be drawn so, without the problem that made it: one axis is a curve, two are a picture, of
three the middle slice is, and a few numbers are a table.
"""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.checkpoints import CheckpointStore
from thalweg.errors import CheckpointError
from thalweg.runs.digest import model_digest
from thalweg.runs.ended import ended_digest
from thalweg.runs.record import RunRecord
from thalweg.runs.report.charts import Curve, chart
from thalweg.runs.report.markup import Markup, element, join, section, table

_LARGEST = 1 << 30  # bytes; a file that has more is not read for pictures
_PIXELS = 480  # a side of a picture
_PANELS = 16
_FEW = 12  # up to so many numbers are printed
_SCALE = "viridis"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that is there: its number, its iteration (None if it cannot be read), its bytes, and what is
    wrong with it."""

    number: int
    iteration: int | None
    size: int
    fault: str = ""


@dataclass(frozen=True)
class Models:
    """What was found of the variables.

    Args:
        panels: by variable, (label, array) in order.
        digests: (label, digest) of the variables together.
        checkpoints: those that are there, oldest first.
        faults: what could not be read.
        between: labels of models that were left behind; they do not set the scale of the colors, so that it is that of
            the start, the truth and the result, as in a problem's own picture.
    """

    panels: dict[str, list[tuple[str, NDArray[Any]]]]
    digests: list[tuple[str, str]]
    checkpoints: list[Checkpoint]
    faults: list[str]
    between: frozenset[str] = frozenset()


def read_models(record: RunRecord) -> Models:
    """Read the variables of a run."""
    faults: list[str] = []
    checkpoints, newest, iteration = _checkpoints(record)
    stages: list[tuple[str, dict[str, NDArray[Any]]]] = []
    for index, path in _block_files(record.folder.models):
        arrays = _load(path, faults)
        if arrays:
            stages.append((f"after {record.block_name(index)}", arrays))
    result = _load(record.folder.result, faults) if record.folder.result.is_file() else {}
    # Without either, the result is all there is; its first array is the variable, unless the problem says otherwise.
    names = list(stages[-1][1] if stages else newest) or list(result)[:1]
    final, label = _final(record, {name: result[name] for name in names if name in result}, newest, iteration)
    if final and not (stages and model_digest(stages[-1][1]) == model_digest(final)):
        stages.append((label, final))
    panels: dict[str, list[tuple[str, NDArray[Any]]]] = {}
    for name in names:
        own = [(label, arrays[name]) for label, arrays in stages if name in arrays]
        shape = own[-1][1].shape if own else None
        others = [
            (other, array)
            for other, array in result.items()
            if other not in names and array.shape == shape and array.dtype.kind == "f"
        ]
        panels[name] = [*others, *own]
    digests = [(label, model_digest(arrays)) for label, arrays in stages]
    labels = [label for label, _ in stages]
    return Models(panels, digests, checkpoints, faults, frozenset(labels[:-1]) - set(labels[-1:]))


def _final(
    record: RunRecord, result: dict[str, NDArray[Any]], newest: dict[str, NDArray[Any]], iteration: int
) -> tuple[dict[str, NDArray[Any]], str]:
    """The variables as they are now, and what they are called. A run that has gone on may still have the result of an
    earlier ending."""
    digest = ended_digest(record)
    for arrays in (result, newest):
        if arrays and model_digest(arrays) == digest:
            return arrays, f"result, after iteration {record.done}"
    if newest:
        return newest, f"after iteration {iteration}"
    return result, "result, after an iteration that is not known"


def draw_models(models: Models) -> Markup:
    """The section of the page."""
    parts = [_variable(name, panels, models.between) for name, panels in models.panels.items() if panels]
    return section("Model", *parts)


def _variable(name: str, panels: Sequence[tuple[str, NDArray[Any]]], between: frozenset[str]) -> Markup:
    panels = [(label, array) for label, array in panels if array.dtype.kind in "biuf" and array.size]
    if not panels:
        return Markup("")
    shape = panels[-1][1].shape
    size = " × ".join(map(str, shape)) or "one number"
    head = element("h3", name, " ", element("span", f"{size}, {panels[-1][1].dtype}", class_="dim"))
    if math.prod(shape) <= _FEW:
        rows = [(label, *(f"{value:.6g}" for value in array.reshape(-1).tolist())) for label, array in panels]
        numbers = range(math.prod(shape))
        return join([head, table(["", *numbers], rows, numbers=[n + 1 for n in numbers])])
    if len(shape) == 1:
        x = np.arange(shape[0], dtype=np.float64)
        chosen = _some(panels)
        curves = [Curve(x, a.astype(np.float64), label, i) for i, (label, a) in enumerate(chosen)]
        return join([head, element("div", chart(name, curves, x="index"), class_="charts")])
    if len(shape) in (2, 3):
        return join([head, _pictures(_some(panels), between)])
    return join([head, element("p", f"{len(shape)} axes are not drawn.", class_="dim")])


def _some(panels: Sequence[tuple[str, NDArray[Any]]]) -> list[tuple[str, NDArray[Any]]]:
    """The first and the last of them, and some between."""
    if len(panels) <= _PANELS:
        return list(panels)
    return [panels[i] for i in np.linspace(0, len(panels) - 1, _PANELS).round().astype(int)]


def _pictures(panels: Sequence[tuple[str, NDArray[Any]]], between: frozenset[str]) -> Markup:
    flat = [(label, a[a.shape[0] // 2] if a.ndim == 3 else a) for label, a in panels]
    low, high = _range(a for label, a in flat if label not in between)
    lowest, highest = _range(a for _, a in flat)
    beyond = "What is beyond the scale has the color of its end." if lowest < low or highest > high else ""
    figures = [
        element(
            "figure",
            element("figcaption", element("b", label), f" {_extent(a)}"),
            Markup(f'<img alt="{element("x", label)[3:-4]}" src="{_png(a, low, high)}">'),
        )
        for label, a in flat
    ]
    rows, columns = flat[0][1].shape
    middle = panels[0][1].ndim == 3
    note = element("p", f"Slice {panels[0][1].shape[0] // 2} of the first axis.", class_="dim") if middle else ""
    shown = element("div", *figures, class_="panels wide" if columns > 2 * rows else "panels")
    return join([note, shown, _scale(low, high), element("p", beyond, class_="dim") if beyond else ""])


def _range(arrays: Iterable[NDArray[Any]]) -> tuple[float, float]:
    """The lowest and the highest finite number."""
    finite = [found for a in arrays if (found := a[np.isfinite(a)]).size]
    if not finite:
        return 0.0, 1.0
    return min(float(a.min()) for a in finite), max(float(a.max()) for a in finite)


def _extent(array: NDArray[Any]) -> str:
    finite = array[np.isfinite(array)]
    return f"{float(finite.min()):.4g} to {float(finite.max()):.4g}" if finite.size else "nothing finite"


def _png(array: NDArray[Any], low: float, high: float) -> str:
    """A picture as a data address: one pixel an element, or, of large arrays, the mean of several."""
    from matplotlib import colormaps
    from matplotlib.image import imsave

    step = max(1, math.ceil(max(array.shape) / _PIXELS))
    rows, columns = (max(1, n // step) for n in array.shape)
    values = array[: rows * step, : columns * step].astype(np.float64)
    if step > 1 and values.shape == (rows * step, columns * step):
        values = values.reshape(rows, step, columns, step).mean(axis=(1, 3))
    # Halves, since the width of the range may be more than a float64 holds.
    width = high / 2 - low / 2
    relative = (values / 2 - low / 2) / width if width > 0 else np.full(values.shape, 0.5)
    colors = colormaps[_SCALE](np.ma.masked_invalid(relative), bytes=True)
    stream = io.BytesIO()
    imsave(stream, colors, format="png")
    return png_address(stream.getvalue())


def png_address(data: bytes) -> str:
    """A PNG as an address that holds all of it."""
    return f"data:image/png;base64,{base64.b64encode(data).decode('ascii')}"


def _scale(low: float, high: float) -> Markup:
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    stops = ", ".join(to_hex(colormaps[_SCALE](k / 8)) for k in range(9))
    bar = element("i", style=f"background: linear-gradient(to right, {stops})")
    return element("div", f"{low:.5g}", bar, f"{high:.5g}", class_="scale")


def _block_files(folder: Path) -> list[tuple[int, Path]]:
    try:
        found = [(re.fullmatch(r"block-(\d{1,9})\.npz", path.name), path) for path in folder.iterdir()]
    except OSError:
        return []
    return sorted((int(match[1]), path) for match, path in found if match)


def _load(path: Path, faults: list[str]) -> dict[str, NDArray[Any]]:
    try:
        if path.stat().st_size > _LARGEST:
            faults.append(f"{path.name} has more than {_LARGEST >> 30} GiB, so it is not drawn")
            return {}
        # NumPy does not close an archive that it cannot read.
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception as error:  # whatever a damaged archive makes NumPy raise
        faults.append(f"{path.name} cannot be read: {type(error).__name__}: {error}")
        return {}


def _checkpoints(record: RunRecord) -> tuple[list[Checkpoint], dict[str, NDArray[Any]], int]:
    """Every checkpoint, verified, and the variables of the newest that is whole."""
    store = CheckpointStore(record.folder.checkpoints)
    found: list[Checkpoint] = []
    newest: dict[str, NDArray[Any]] = {}
    reached = 0
    try:
        numbers = store.generations()
    except OSError:
        return [], {}, 0
    for number in numbers:
        place = record.folder.checkpoints / f"{number:06d}"
        size = sum(_size(path) for path in place.glob("*"))
        if size > _LARGEST:
            found.append(Checkpoint(number, None, size, "not checked: it is large"))
            continue
        try:
            arrays, meta, _ = store.load(number)
        except CheckpointError as error:
            if place.exists():  # else the run has just removed an old one
                found.append(Checkpoint(number, None, size, str(error)))
            continue
        iteration = meta.get("iteration")
        reached = iteration if isinstance(iteration, int) else 0
        found.append(Checkpoint(number, reached, size))
        newest = {n.removeprefix("variable/"): a for n, a in arrays.items() if n.startswith("variable/")}
    return found, newest, reached


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
