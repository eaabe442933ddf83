"""A study: everything that decides a run, read from a TOML file and validated before anything is computed."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from thalweg.errors import StudyError, ThalwegError
from thalweg.runs.built import check_built
from thalweg.runs.files import read_small
from thalweg.runs.kinds import find_kind
from thalweg.runs.objecting import what_stops
from thalweg.runs.overrides import apply_overrides, path_of
from thalweg.runs.problem import Problem
from thalweg.runs.settings import GenericBlock, StudySettings
from thalweg.runs.toml import LARGEST, dumps, parse
from thalweg.runs.tuning import feedback_faults, optimizer_faults, override_faults
from thalweg.runs.validation import MOST, Fault, refusing, size_faults, study_error, unknown_key, validate

_GENERIC_BLOCK = frozenset(GenericBlock.model_fields)


@dataclass(frozen=True)
class Study:
    """A validated study.

    Use :meth:`load` or :meth:`from_document`.

    Example:
        >>> from pydantic import BaseModel
        >>> from thalweg.runs import Problem, Study
        >>> class Settings(BaseModel, extra="forbid"):
        ...     size: int = 3
        >>> class Nothing(Problem):
        ...     kind, Settings, BlockSettings = "nothing", Settings, Settings
        ...     build = feedback = None
        >>> document = {"title": "t", "problem": {"kind": "nothing"}, "blocks": [{"iterations": 2}]}
        >>> document["optimizer"] = {"kind": "adam"}
        >>> study = Study.from_document(document, kinds={"nothing": Nothing}, overrides=["problem.size=5"])
        >>> study.iterations, study.problem_settings
        (2, Settings(size=5))
    """

    name: str
    folder: Path
    text: str
    document: dict[str, Any]
    settings: StudySettings
    blocks: tuple[GenericBlock, ...]
    problem_class: type[Problem]
    problem_settings: BaseModel
    problem_blocks: tuple[BaseModel, ...]
    overrides: tuple[str, ...] = ()

    @property
    def iterations(self) -> int:
        """Number of iterations in all blocks together."""
        return sum(block.iterations for block in self.blocks)

    @classmethod
    def load(
        cls,
        path: Path | str,
        *,
        overrides: Iterable[str] = (),
        kinds: Mapping[str, type[Problem]] | None = None,
    ) -> Study:
        """Read a study file.

        Args:
            path: a TOML file. Relative paths in it start at its folder.
            overrides: changes, each ``"path=value"`` as in ``--set blocks.0.iterations=4``; values are TOML.
            kinds: problem kinds of the caller's, by name, besides the installed ones.

        Raises:
            StudyError: it cannot be read, or it is wrong; all faults are listed, each with its dotted path.
        """
        path = Path(path)
        text = _read(path)
        try:
            document = parse(text)
        except (ValueError, RecursionError) as error:
            raise StudyError(
                f"{path} is no TOML: {error}. A study is a TOML file; text stands in quotes, tables in [brackets].",
                path=str(path),
            ) from error
        overrides = list(overrides)
        study = cls.from_document(
            document,
            name=path.stem,
            folder=path.resolve().parent,
            overrides=overrides,
            kinds=kinds,
            source=str(path),
        )
        # Without changes the author's own text is frozen, with its comments.
        return study if overrides else study.with_text(text)

    @classmethod
    def from_document(
        cls,
        document: dict[str, Any],
        *,
        name: str = "study",
        folder: Path | str = ".",
        overrides: Iterable[str] = (),
        kinds: Mapping[str, type[Problem]] | None = None,
        source: str = "The study",
        named: Iterable[str] = (),
    ) -> Study:
        """A study from a dict, as ``tomllib.loads`` returns it; it is copied.

        Args:
            name: what its run folders are called after.
            folder: where relative paths in it start.
            overrides: see :meth:`load`.
            kinds: see :meth:`load`.
            source: what errors call it.
            named: the dotted paths of what ``overrides`` have changed in the document before, for errors.

        Raises:
            StudyError: see :meth:`load`.
        """
        with refusing(source, "read"):
            return cls._validated(document, name, Path(folder), overrides, kinds, source, named)

    @classmethod
    def _validated(
        cls,
        document: dict[str, Any],
        name: str,
        folder: Path,
        overrides: Iterable[str],
        kinds: Mapping[str, type[Problem]] | None,
        source: str,
        named: Iterable[str],
    ) -> Study:
        overrides = tuple(overrides)
        named = [*named, *map(path_of, overrides)]
        document, faults = apply_overrides(document, overrides)
        faults = faults or size_faults(document)
        if faults:
            raise study_error(source, faults, named)
        settings, faults = validate(StudySettings, document, "")
        problem = document.get("problem", {})
        problem_class: type[Problem] | None = None
        problem_settings: BaseModel | None = None
        if isinstance(problem, dict) and "kind" in problem:
            problem_class, found = find_kind(problem["kind"], kinds)
            faults += found
        elif isinstance(problem, dict) and "problem" in document:
            faults.append(Fault("problem.kind", "is missing; it names what the run optimizes"))
        if problem_class is not None:
            _check_face(problem_class)
            problem_settings, found = validate(problem_class.Settings, problem, "problem", ignore=frozenset({"kind"}))
            faults += found
        if isinstance(document.get("optimizer"), dict):
            rewarded = None if problem_class is None else problem_class.rewarded
            faults += optimizer_faults(document["optimizer"], "optimizer", rewarded=rewarded)
            if problem_class is not None:
                faults += feedback_faults(document, problem_class)
        blocks, problem_blocks, found = _blocks(document, problem_class)
        faults += found
        if faults or settings is None or problem_class is None or problem_settings is None:
            raise study_error(source, faults, named)
        return cls(
            name=name,
            folder=folder,
            text=dumps(document),
            document=document,
            settings=settings,
            blocks=tuple(blocks),
            problem_class=problem_class,
            problem_settings=problem_settings,
            problem_blocks=tuple(problem_blocks),
            overrides=overrides,
        )

    def build_problem(self, *, begins: bool = True) -> Problem:
        """Make the problem, which refuses what it can refuse, and check that the blocks fit its number of
        items.

        Args:
            begins: whether its start is checked, too; that of a run that goes on is past.

        Raises:
            ThalwegError: the problem's own refusal, or a StudyError.
        """
        said_as = nullcontext() if begins else what_stops()
        with said_as, refusing(f"The study {self.name}", f"built by {self.problem_class.__qualname__}"):
            problem = self.problem_class.build(
                self.problem_settings, list(self.problem_blocks), seed=self.settings.seed, folder=self.folder
            )
        check_built(problem, self.problem_class)
        if begins:
            self.check_start(problem)
        faults = [
            Fault(f"blocks.{i}.batch_size", f"got {block.batch_size}, and there are only {problem.items} items")
            for i, block in enumerate(self.blocks)
            if block.batch_size is not None and block.batch_size > problem.items
        ]
        if faults:
            raise study_error(f"The study {self.name}", faults)
        return problem

    def check_start(self, problem: Problem) -> None:
        """Have the problem refuse its start, and what it objects to.

        Raises:
            ThalwegError: the problem's own refusal, or a StudyError.
        """
        for error, _ in self.objections(problem):
            raise error

    def objections(self, problem: Problem) -> Iterator[tuple[ThalwegError, tuple[str, ...]]]:
        """What a run that begins is refused for: what is wrong with its start, and the problem's objections, each with
        the dotted paths that it follows from. The start has none: it is past where a run goes on, whatever changes."""
        name, begun = f"The study {self.name}", f"begun by {self.problem_class.__qualname__}"
        try:
            with refusing(name, begun):
                problem.check_start()
        except ThalwegError as error:
            yield error, ()
        with refusing(name, begun):
            found = [(error, tuple(keys)) for error, keys in problem.objections()]
        yield from found

    def with_text(self, text: str) -> Study:
        """The same study, frozen as this text, which has its author's order and comments."""
        changed = copy.copy(self)
        object.__setattr__(changed, "text", text)
        return changed


def _read(path: Path) -> str:
    try:
        return read_small(path, LARGEST + 1)
    except UnicodeDecodeError as error:
        raise StudyError(f"The study {path} is no TOML: it is not UTF-8 text ({error}).", path=str(path)) from error
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise StudyError(f"The study {str(path)!r} cannot be read: {why}.", path=str(path)) from error


def _check_face(problem_class: type[Problem]) -> None:
    shared = _GENERIC_BLOCK & _keys(problem_class.BlockSettings)
    if shared or "kind" in problem_class.Settings.model_fields:
        keys = ", ".join(sorted(shared)) or "problem.kind"
        raise StudyError(
            f"The problem {problem_class.__qualname__} declares {keys}, which the run uses itself; it must "
            "use other names."
        )


def _blocks(
    document: dict[str, Any], problem_class: type[Problem] | None
) -> tuple[list[GenericBlock], list[BaseModel], list[Fault]]:
    tables = document.get("blocks")
    if not isinstance(tables, list):
        return [], [], []  # the validation of the whole has said so
    blocks: list[GenericBlock] = []
    own: list[BaseModel] = []
    faults: list[Fault] = []
    theirs = _keys(problem_class.BlockSettings) if problem_class else None
    for index, table in enumerate(tables):
        if len(faults) >= MOST:
            break  # which are as many as will be listed
        if not isinstance(table, dict):
            continue
        path = f"blocks.{index}"
        # Without a problem nobody can say which keys are its own, so none is called unknown.
        unknown = set() if theirs is None else set(table) - _GENERIC_BLOCK - theirs
        faults += [unknown_key(f"{path}.{key}", _GENERIC_BLOCK | (theirs or set())) for key in sorted(unknown)]
        block, found = validate(GenericBlock, table, path, ignore=frozenset(table) - _GENERIC_BLOCK)
        faults += found
        if block is not None:
            blocks.append(block)
            begun = index > 0 and not block.reset_optimizer
            faults += override_faults(document.get("optimizer"), block.optimizer, f"{path}.optimizer", begun=begun)
        if problem_class is not None:
            ignore = frozenset(table) - (theirs or set())
            settings, found = validate(problem_class.BlockSettings, table, path, ignore=ignore)
            faults += found
            if settings is not None:
                own.append(settings)
    return blocks, own, faults


def _keys(model: type[BaseModel]) -> frozenset[str]:
    return frozenset(field.alias or name for name, field in model.model_fields.items())
