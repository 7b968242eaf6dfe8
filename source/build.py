"""Build notebooks/, exercises/ and solutions/ from the texts in source/. Nothing is ever edited there."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from builder.making import build, check
from builder.project import BuildError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 1 when something could not be built or is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python source/build.py 03_attention --check")
    parser.add_argument("names", nargs="*", metavar="NAME", help="stems such as 03_attention (default: all)")
    parser.add_argument("--check", action="store_true", help="write nothing; say what is stale, unfinished or broken")
    parser.add_argument("--run", action="store_true", help="with --check: execute lessons and solutions afresh as well")
    parser.add_argument("--force", action="store_true", help="build even what is fresh")
    options = parser.parse_args(arguments)
    if options.run and not options.check:
        parser.error("--run goes with --check; to execute and write everything, use --force")
    try:
        problems = (
            check(names=options.names, again=options.run)
            if options.check
            else build(names=options.names, force=options.force)
        )
    except BuildError as error:
        problems = [str(error)]
    print(*problems, sep="\n", file=sys.stderr) if problems else print("everything is built and fresh")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
