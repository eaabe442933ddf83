"""The application that the commands belong to, and the options before them."""

from __future__ import annotations

from typing import Annotated

import typer

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
