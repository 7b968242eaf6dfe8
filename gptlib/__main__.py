"""`python -m gptlib`, the same as the `gptlib` command."""

from gptlib.cli import main

main()
