"""Commands that read what is there: ``report``, ``compare``, ``watch``, ``export`` and ``studies``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from thalweg.cli.app import app
from thalweg.cli.failing import fail, refuse
from thalweg.cli.options import RunArgument, TracebackOption, complete_run, complete_shipped


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
        fail("There is no report.", error, traceback, code=2)
    typer.echo(str(path))


@app.command()
def compare(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN RUN...",
            help="The folders of two or more runs.",
            autocompletion=complete_run,
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
        fail("The runs were not compared.", error, traceback, code=2)
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
        fail("The run cannot be watched.", error, traceback, code=2)
    raise typer.Exit(0 if status == "finished" else 1)


@app.command()
def export(
    folder: RunArgument,
    iteration: Annotated[
        int | None,
        typer.Option("--iteration", metavar="N", min=0, help="Of which iteration; default: the newest checkpoint."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Default: `RUN-N.npz`, or of a search `RUN-N.json`, in the present folder.",
            show_default=False,
        ),
    ] = None,
    traceback: TracebackOption = False,
) -> None:
    """Write one checkpoint of a run as a `.npz` file for NumPy; of a search as JSON.

    The `.npz` file holds the variables by name, the optimizer's arrays as `optimizer/...`, and a text `meta`. Of a
    search there is no array: the `.json` file holds the values that were best then, as `result.json` has those that
    were chosen at the end.

        thalweg export runs/head-1 --iteration 20 --out model.npz
    """
    from thalweg.runs.exporting import export as write

    try:
        typer.echo(str(write(folder, out, iteration=iteration)))
    except Exception as error:
        fail("Nothing was written.", error, traceback, code=2)


@app.command()
def studies(
    copy: Annotated[
        str | None,
        typer.Option(
            "--copy",
            metavar="NAME",
            help="Write this study into the present folder, to be changed.",
            autocompletion=complete_shipped,
            show_default=False,
        ),
    ] = None,
    traceback: TracebackOption = False,
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
            refuse(error, traceback)
        typer.echo(f"{path} is yours now: change it, then `thalweg run {path}`")
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column()
    for entry in shipped_studies():
        table.add_row(entry.name, f"{entry.title}\n{entry.description}".strip())
    Console().print(table)
