"""``python -m thalweg.cli`` is the command, too."""

from thalweg.cli import main

main()
