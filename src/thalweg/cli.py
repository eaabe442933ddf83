"""The ``thalweg`` command.

Only typer and rich are imported here; everything heavier is imported by the command that needs it, so that
``thalweg --help`` answers at once.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

try:
    import typer
except KeyboardInterrupt:  # an impatient user deserves no traceback
    sys.exit(130)

if TYPE_CHECKING:
    from thalweg.runs import Display, Run, Study

app = typer.Typer(
    name="thalweg",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Fit models to data whatever the feedback looks like.\n\n"
        "A study is a TOML file that says what to optimize and how. See which ones there are, check one "
        "before hours are spent on it, and run it:\n\n"
        "    thalweg studies\n\n"
        "    thalweg check head\n\n"
        "    thalweg run head\n"
    ),
)


def _complete_study(incomplete: str) -> list[str]:
    from thalweg.runs.shipped import shipped_names

    files = [str(path) for path in Path().glob(f"{incomplete}*.toml")]
    folders = [f"{path}/" for path in Path().glob(f"{incomplete}*") if path.is_dir()]
    return [name for name in shipped_names() if name.startswith(incomplete)] + sorted(files + folders)


def _complete_run(incomplete: str) -> list[str]:
    from glob import escape, glob  # Path.glob knows no patterns that begin with a slash

    found = [path for depth in ("*", "*/*") for path in glob(f"{escape(incomplete)}{depth}/run.sqlite")]
    return sorted(os.path.dirname(path) for path in found)


StudyArgument = Annotated[
    str,
    typer.Argument(
        metavar="STUDY",
        help="A study file, or the name of a study that comes with Thalweg (`thalweg studies`).",
        autocompletion=_complete_study,
        show_default=False,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Change one value of the study; the value is TOML. May be repeated. "
        "Entries of lists go by number: `--set blocks.0.iterations=4`.",
        show_default=False,
    ),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        "--threads",
        metavar="N",
        min=1,
        help="Threads that compute; default: what the study says, else every core. The result does not depend on it.",
        show_default=False,
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        min=1,
        help="Compute in N Dask worker processes of this machine, instead of threads. The result is the same.",
        show_default=False,
    ),
]
SchedulerOption = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        metavar="ADDRESS",
        help="Compute on the Dask cluster of this scheduler, `tcp://host:8786`. The result is the same.",
        show_default=False,
    ),
]
QuietOption = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors and the path of the run.")]
TracebackOption = Annotated[
    bool, typer.Option("--traceback", help="After an error show where in the program it came from, too.")
]


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"thalweg {version('thalweg')}")
        raise typer.Exit


@app.callback()
def _root(
    show_version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Hold the options that come before a command."""


@app.command()
def run(
    study: StudyArgument,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="The folder of this run, empty or new; default: the next free `runs/STUDY-N`.",
            show_default=False,
        ),
    ] = None,
    changes: SetOption = None,
    threads: ThreadsOption = None,
    workers: WorkersOption = None,
    scheduler: SchedulerOption = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out, if there is one; begin it if there is not.")
    ] = False,
    quiet: QuietOption = False,
    traceback: TracebackOption = False,
) -> None:
    """Run a study.

    Everything about the run ends up in one folder: the study as it ran, the history, checkpoints, pictures,
    the model (`result.npz`) and the figures (`summary.json`). Ctrl-C stops after the shots that are being
    worked on and leaves the run readable; a second one stops at once.

        thalweg run head --set blocks.0.iterations=4 --out runs/try
    """
    if resume and out is None:
        typer.secho("Error: --resume goes with --out.", fg="red", bold=True, err=True)
        typer.echo("Say which run is meant: its folder, or `thalweg resume RUN`.", err=True)
        raise typer.Exit(2)
    changes = [*_placing(workers, scheduler), *(changes or [])]
    loaded = _load(study, changes, threads, traceback)
    if resume and out is not None and (out / "run.sqlite").is_file():
        paths = [change.partition("=")[0] for change in changes or []]
        _go_on(out, [], loaded, paths, quiet, traceback)
        return
    display, close = _display(loaded, quiet)
    _execute(_session(loaded, out, display), close, quiet, traceback)


@app.command()
def resume(
    folder: Annotated[
        Path,
        typer.Argument(metavar="RUN", help="The folder of the run.", autocompletion=_complete_run, show_default=False),
    ],
    changes: SetOption = None,
    threads: ThreadsOption = None,
    workers: WorkersOption = None,
    scheduler: SchedulerOption = None,
    quiet: QuietOption = False,
    traceback: TracebackOption = False,
) -> None:
    """Go on with a run that was stopped, was killed, or is to have more iterations.

    It continues from its newest checkpoint, to the same bits as if it had never stopped. The study is the one in
    the folder; what is to change is named with --set.

        thalweg resume runs/head-1

        thalweg resume runs/head-1 --set blocks.2.iterations=40
    """
    overrides = [*_placing(workers, scheduler), *(changes or []), *([f"runtime.threads={threads}"] if threads else [])]
    _go_on(folder, overrides, None, [], quiet, traceback)


def _go_on(
    folder: Path, overrides: list[str], study: Study | None, named: list[str], quiet: bool, traceback: bool
) -> None:
    from thalweg.runs.session import Run

    try:
        session = Run.resume(folder, overrides=overrides, study=study, named=named)
    except Exception as error:
        _refuse(error, traceback)
    display, close = _display(session.study, quiet)
    session.show(display)
    _execute(session, close, quiet, traceback)


def _execute(session: Run, close: Any, quiet: bool, traceback: bool) -> None:
    """Run it in the terminal, with Ctrl-C and errors as a user expects them."""
    from thalweg.runs.interrupt import Interrupted, run_interruptible

    def on_second() -> None:
        try:
            session.abandon()
        finally:
            close()

    try:
        run_interruptible(session.execute(), on_first=session.announce_stop, on_second=on_second)
    except Interrupted as stopped:
        # A signal that came when all was done and written down has not stopped anything.
        if session.outcome is None or session.outcome.status != "finished":
            raise typer.Exit(128 + stopped.signal) from None
    except Exception as error:
        close()
        if session.outcome is None:
            _refuse(error, traceback)  # before there was a run: the study is at fault
        _fail(
            "The run stopped.",
            error,
            traceback,
            code=1,
            hint=f"Everything until then is in {session.outcome.folder}; go on with: thalweg resume "
            f"{session.outcome.folder}",
        )
    if quiet and session.outcome is not None:
        typer.echo(str(session.outcome.folder))


@app.command()
def check(
    study: StudyArgument,
    changes: SetOption = None,
    threads: ThreadsOption = None,
    traceback: TracebackOption = False,
) -> None:
    """Check a study before hours are spent on it.

    Validates the file, prints what the run will need, and measures what could be wrong (for a wave problem:
    adjoint and gradient tests, stability, points a wavelength, memory, expected time). Exits with 1 if a
    check fails.

        thalweg check head --set problem.order=8
    """
    from rich.console import Console

    from thalweg.runs.checking import print_checks

    loaded = _load(study, changes, threads, traceback)
    try:
        good = print_checks(loaded, Console())
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except Exception as error:
        _refuse(error, traceback)
    raise typer.Exit(0 if good else 1)


RunArgument = Annotated[
    Path,
    typer.Argument(metavar="RUN", help="The folder of a run.", autocompletion=_complete_run, show_default=False),
]


@app.command()
def report(
    folder: RunArgument,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="The file; default: `RUN/report.html`.", show_default=False),
    ] = None,
    traceback: TracebackOption = False,
) -> None:
    """Write everything about a run into one HTML file.

    Study, pictures, models, misfit, steps and gradients, times, failures, digests, versions and machine. The file
    needs no network, no script and no other file, so it can be mailed and kept. It works for a run that is going
    on (what is known by now), that was killed, or that has ended.

        thalweg report runs/head-1

        thalweg report runs/head-1 --out head.html
    """
    from thalweg.runs.report import write_report

    try:
        path = write_report(folder, out)
    except Exception as error:
        _fail("There is no report.", error, traceback, code=2)
    typer.echo(str(path))


@app.command()
def compare(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN RUN...",
            help="The folders of two or more runs.",
            autocompletion=_complete_run,
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Draw the misfits of all runs into this file, too (`.png`, `.svg` or `.pdf`).",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    traceback: TracebackOption = False,
) -> None:
    """Put runs beside each other.

    How far each got, its misfit block by block, the problem's own figures, its time, whether they ended with the
    same model to the last bit, and the keys in which their studies differ.

        thalweg compare runs/head-1 runs/head-2 --out compare.png
    """
    from rich.console import Console

    from thalweg.runs.compare import Comparison, draw_comparison, print_comparison

    try:
        comparison = Comparison.read(folders)
        if out is not None:
            draw_comparison(comparison, out)
        if as_json:
            import json

            typer.echo(json.dumps(comparison.to_json(), indent=2, ensure_ascii=False))
        else:
            print_comparison(comparison, Console())
    except Exception as error:
        _fail("The runs were not compared.", error, traceback, code=2)
    if out is not None and not as_json:
        typer.echo(f"picture: {out}")


@app.command()
def watch(folder: RunArgument, traceback: TracebackOption = False) -> None:
    """Follow a run from another terminal, until it ends.

    It only reads, and the run does not notice. Ctrl-C ends the watching and leaves the run alone. Exits with 0 if
    the run has finished, with 1 if it ended in another way.

        thalweg watch runs/head-1
    """
    from rich.console import Console

    from thalweg.runs.watch import watch_run

    console = Console()
    try:
        status = watch_run(folder, console)
    except KeyboardInterrupt:
        typer.echo(f"Not watching any more; the run goes on. Again: thalweg watch {folder}")
        raise typer.Exit(130) from None
    except Exception as error:
        _fail("The run cannot be watched.", error, traceback, code=2)
    raise typer.Exit(0 if status == "finished" else 1)


@app.command()
def export(
    folder: Annotated[
        Path,
        typer.Argument(metavar="RUN", help="The folder of the run.", autocompletion=_complete_run, show_default=False),
    ],
    iteration: Annotated[
        int | None,
        typer.Option("--iteration", metavar="N", min=0, help="Of which iteration; default: the newest checkpoint."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Default: `RUN-N.npz` in the present folder.", show_default=False),
    ] = None,
    traceback: TracebackOption = False,
) -> None:
    """Write one checkpoint of a run as a `.npz` file for NumPy.

    It holds the variables by name, the optimizer's arrays as `optimizer/...`, and a text `meta`.

        thalweg export runs/head-1 --iteration 20 --out model.npz
    """
    from thalweg.runs.exporting import export as write

    try:
        typer.echo(str(write(folder, out, iteration=iteration)))
    except Exception as error:
        _fail("Nothing was written.", error, traceback, code=2)


@app.command()
def studies(
    copy: Annotated[
        str | None,
        typer.Option(
            "--copy",
            metavar="NAME",
            help="Write this study into the present folder, to be changed.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """List the studies that come with Thalweg.

    thalweg studies --copy head
    """
    from rich.console import Console
    from rich.table import Table

    from thalweg.runs.shipped import copy_study, shipped_studies

    if copy is not None:
        try:
            path = copy_study(copy, Path())
        except Exception as error:
            _refuse(error, traceback=False)
        typer.echo(f"{path} is yours now: change it, then `thalweg run {path}`")
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column()
    for entry in shipped_studies():
        table.add_row(entry.name, f"{entry.title}\n{entry.description}".strip())
    Console().print(table)


def main() -> None:
    """Run the command; the entry point of the installed script."""
    code: Any = 0
    unwritten: OSError | None = None
    try:
        app()
    except SystemExit as ended:
        code = ended.code
    except KeyboardInterrupt:
        code = 130
    except OSError as error:  # the commands catch their own: this is the output's
        unwritten = error
    try:
        sys.stdout.flush()
    except OSError as error:
        # What is still buffered has nowhere to go; without this the interpreter would complain at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # that is a reader who has left: `thalweg run head | head -3`
            unwritten = unwritten or error
    if unwritten is not None:
        typer.secho(f"Error: The output cannot be written: {unwritten.strerror}.", fg="red", bold=True, err=True)
        typer.echo("Make room, or write it somewhere else.", err=True)
        code = code or 1
    sys.exit(code)


def _load(name: str, changes: list[str] | None, threads: int | None, traceback: bool) -> Study:
    from thalweg.runs.shipped import find_study
    from thalweg.runs.study import Study

    overrides = [*(changes or []), *([f"runtime.threads={threads}"] if threads else [])]
    try:
        return Study.load(find_study(name), overrides=overrides)
    except Exception as error:
        _refuse(error, traceback)


def _placing(workers: int | None, scheduler: str | None) -> list[str]:
    """The change of a study that has it run on a cluster; what --set says about the cluster comes after it."""
    import json

    keys = {"workers": workers, "scheduler": scheduler}
    said = [f"{key} = {json.dumps(value)}" for key, value in keys.items() if value is not None]
    return [f'runtime={{ kind = "dask", {", ".join(said)} }}'] if said else []


def _display(study: Study, quiet: bool) -> tuple[Display, Any]:
    """The display, and what gives the terminal back."""
    from rich.console import Console

    from thalweg.runs.display import PlainDisplay, QuietDisplay
    from thalweg.runs.live import LiveDisplay

    if quiet:
        return QuietDisplay(), lambda: None
    console = Console()
    if console.is_terminal and not console.is_dumb_terminal:
        live = LiveDisplay(console, item_name=study.problem_class.item_name)
        return live, live.close
    return PlainDisplay(sys.stdout), lambda: None


def _session(study: Study, out: Path | None, display: Display) -> Run:
    from thalweg.runs.session import Run

    return Run(study, out=out, display=display)


def _refuse(error: Exception, traceback: bool) -> NoReturn:
    from thalweg.errors import ThalwegError

    what = "Nothing was computed" + ("." if isinstance(error, ThalwegError) else ": an unexpected error.")
    _fail(what, error, traceback, code=2)


def _fail(what: str, error: Exception, traceback: bool, *, code: int, hint: str = "") -> NoReturn:
    """Print one block that says what happened, why, and what to do, and exit."""
    import traceback as tracebacks

    from thalweg.errors import ThalwegError

    ours = isinstance(error, ThalwegError)
    if traceback:
        typer.echo("".join(tracebacks.format_exception(error)), err=True)
    typer.secho(f"Error: {what}", fg="red", bold=True, err=True)
    typer.echo(str(error) if ours else f"{type(error).__name__}: {error}", err=True)
    for note in getattr(error, "__notes__", []):
        typer.echo(f"({note})", err=True)
    if hint:
        typer.echo(hint, err=True)
    foreign = not ours or (error.__cause__ is not None and not isinstance(error.__cause__, (ThalwegError, OSError)))
    if foreign and not traceback:
        typer.echo("With --traceback you see where in the program it came from.", err=True)
    raise typer.Exit(code)


if __name__ == "__main__":
    main()
