"""Finished sums of the iteration in progress, on disk: what a shot of minutes has cost is not lost with the process.

::

    RUN/shots/000013-0/     the first sum of items in the feedback of iteration 13
        000004/             a partial sum: manifest.json, state.safetensors (thalweg.checkpoints)

Each says what it was computed of (study, block, model, versions and processor, batch) and which items it holds. One
that is of something else, or damaged, is not used, and that is said. A sum that is contained in another goes; all of an
iteration go when a checkpoint that knows of it is on the disk, or when it is committed and none is made of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from thalweg.checkpoints import CheckpointStore
from thalweg.checkpoints.files import flush_folder
from thalweg.checkpoints.store import TEMPORARY
from thalweg.errors import CheckpointError, RunError
from thalweg.runs.digest import model_digest
from thalweg.runs.flat import flatten, restore
from thalweg.runs.settings import GenericBlock
from thalweg.runs.study import Study
from thalweg.runtime.identity import identity
from thalweg.runtime.tree import Tree, below

SHOTS = "shots"
"""The folder in the run's."""


class KeptShots:
    """The folder of kept sums of one run.

    Args:
        folder: where they go; it need not be there.
        about: digest of what decides a sum besides the model and the batch; see :func:`digest_of_study`.
        note: told of what cannot be used.
        guard: called before a sum is written; raises where nothing may be.
        tell: told of what is used.
    """

    def __init__(
        self,
        folder: Path,
        about: str,
        note: Callable[[str], None],
        guard: Callable[[], None] = lambda: None,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._tell = tell
        self._folder = folder
        self._about = about
        self._note = note
        self._guard = guard

    def call(
        self,
        iteration: int,
        block: int,
        number: int,
        variables: Mapping[str, NDArray[Any]],
        items: Sequence[Any],
        what: str,
    ) -> KeptSums:
        """The sums of one map_reduce.

        Args:
            iteration: the number of the step that the feedback is for.
            block: the index of its block, which may be of another band: a study whose earlier blocks were made longer
                or shorter has the same iteration in another one.
            number: which map_reduce of this feedback, from 0.
            variables: by name, as they are.
            items: what is summed over.
            what: what else has to be the same, such as what becomes of failed items.

        Raises:
            CheckpointError: there cannot be a folder for them.
        """
        self._make_folder()
        about = {
            "iteration": iteration,
            "block": block,
            "call": number,
            "model": model_digest(variables),
            "items": _digest(repr([str(item) for item in items]).encode()),
            "count": len(items),
            "what": what,
            "study": self._about,
        }
        return KeptSums(self._folder / f"{iteration:06d}-{number}", about, self._note, self._guard, self._tell)

    def _make_folder(self) -> None:
        """Make the folder in the run's, which has to be there: where that has been moved from nothing is made."""
        self._guard()
        try:
            self._folder.mkdir()
            flush_folder(self._folder.parent)
        except FileExistsError:
            pass
        except OSError as error:
            raise CheckpointError(f"cannot save to {self._folder}: {error}", folder=str(self._folder)) from error

    def forget(self, iteration: int, *, only: bool = False) -> None:
        """Remove the sums of the steps up to ``iteration``, which a checkpoint knows of; from any thread.

        Args:
            iteration: the number of a step.
            only: those of this step and of no other: a checkpoint of those before may be about to be written.
        """
        try:
            names = os.listdir(self._folder)
        except FileNotFoundError:
            return
        except OSError as error:
            self._note(f"{self._folder} cannot be looked at: {error.strerror or error}")
            return
        for name in names:
            found = re.fullmatch(r"([0-9]{6,15})-[0-9]+", name)
            if found and (int(found[1]) == iteration if only else int(found[1]) <= iteration):
                aside = self._folder / f"{TEMPORARY}{secrets.token_hex(8)}"  # never seen half removed
                try:
                    os.rename(self._folder / name, aside)
                    shutil.rmtree(aside)
                except OSError as error:  # nobody will use it; it takes room
                    self._note(f"{self._folder / name} could not be removed: {error.strerror or error}")
            elif name.startswith(TEMPORARY) and not only:  # of a process that was killed
                shutil.rmtree(self._folder / name, ignore_errors=True)


class KeptSums:
    """The kept sums of one map_reduce: a :class:`~thalweg.runtime.tree.Kept`.

    Args:
        folder: where they are.
        about: what they are computed of.
        note: told of what cannot be used.
        guard: called before a sum is written; raises where nothing may be.
        tell: told of what is used.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from thalweg.runs.kept_shots import KeptSums
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     KeptSums(Path(folder), {"model": "a"}, print).keep(1, 0, {"loss": 3.0})
        ...     KeptSums(Path(folder), {"model": "a"}, print).sums(3)
        {(1, 0): {'loss': 3.0}}
    """

    def __init__(
        self,
        folder: Path,
        about: Mapping[str, Any],
        note: Callable[[str], None],
        guard: Callable[[], None] = lambda: None,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._guard = guard
        self._tell = tell
        self._store = CheckpointStore(folder, parents=False)
        self._about = dict(about)
        self._note = note
        self._there: dict[tuple[int, int], int] = {}  # the generation that holds a sum
        self._count = 0

    def sums(self, count: int) -> dict[tuple[int, int], Tree]:
        """The sums that are there and hold what they should; the others are removed.

        Args:
            count: number of items.
        """
        self._count = count
        found: dict[tuple[int, int], tuple[int, Tree]] = {}
        strange = []
        for generation in self._store.generations():
            try:
                arrays, meta, _ = self._store.load(generation)
                if meta.get("about") != self._about:
                    strange.append(generation)
                    continue
                place, value = _place(meta, count), restore(meta.get("sum"), arrays)
            except (CheckpointError, RunError) as error:
                self._note(f"a sum of finished shots is damaged, so its shots are computed again: {error}")
                self._remove(generation)
                continue
            found[place] = generation, value
        if strange:
            self._note(
                f"{len(strange)} sums of finished shots are not of this iteration (study, block, model, versions, "
                "processor or batch are others), so their shots are computed again"
            )
        used: dict[tuple[int, int], Tree] = {}
        done: set[int] = set()
        for place in sorted(found, reverse=True):  # the largest first; a smaller one in it has outlived a kill
            generation, value = found[place]
            if done.isdisjoint(items := below(*place, count)):
                self._there[place], used[place] = generation, value
                done.update(items)
            else:
                strange.append(generation)
        for generation in strange:
            self._remove(generation)
        if done:
            self._tell(f"{len(done)} of {count} shots were finished before, and are not computed again")
        return used

    def keep(self, level: int, index: int, value: Tree) -> None:
        """Write a sum, then remove those that it contains.

        Raises:
            CheckpointError: it cannot be written.
            RunError: it holds what cannot be written.
        """
        structure, arrays = flatten(value)
        self._guard()
        path = self._store.save(arrays, {"about": self._about, "level": level, "index": index, "sum": structure})
        inside = [place for place in list(self._there) if place[0] < level and place[1] >> (level - place[0]) == index]
        self._there[level, index] = int(path.name)
        for place in inside:
            self._remove(self._there.pop(place))

    def _remove(self, generation: int) -> None:
        aside = self._store.folder / f"{TEMPORARY}{secrets.token_hex(8)}"  # never seen half removed
        try:
            os.rename(self._store.folder / f"{generation:06d}", aside)
        except OSError:  # it will be found again, and be contained in another one
            return
        shutil.rmtree(aside, ignore_errors=True)


def digest_of_study(study: Study, inputs: Mapping[str, str] | None) -> str:
    """A digest of what decides the feedback besides model and batch: problem, input, blocks, seed, versions, processor.

    Not of where it is computed, nor of how many iterations there are: both may change when a run goes on. Nor of where
    files are, if it is known what is in them.

    Args:
        study: the study.
        inputs: see :meth:`Problem.inputs`.
    """
    generic = GenericBlock.model_fields
    blocks = [{key: value for key, value in table.items() if key not in generic} for table in study.document["blocks"]]
    about = {
        "problem": study.document["problem"],
        "blocks": blocks,
        "seed": study.settings.seed,
        "files": str(study.folder.absolute()) if inputs is None else dict(inputs),
        "bits": identity(),
    }
    return _digest(json.dumps(about, sort_keys=True, default=str).encode())


def _place(meta: Mapping[str, Any], count: int) -> tuple[int, int]:
    level, index = meta.get("level"), meta.get("index")
    if not (
        type(level) is int and type(index) is int and 0 <= level < 64 and index >= 0 and below(level, index, count)
    ):
        raise RunError(f"it says that it is sum {index!r} of level {level!r} of {count} items")
    return level, index


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()
