"""Copy what is new of the course to a learner's home, and link what was handed back: `prepare.py HOME OUTBOX`.

JupyterHub runs it as the learner, before the learner's server starts: whatever stands in that home, it can harm nothing
but that home.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "source"))
from lab import copy_course


def main() -> None:
    """Copy and link; what is there already is left as it is."""
    home, outbox = map(Path, sys.argv[1:])
    copy_course(work=home / "inside-gpt")
    feedback = home / "inside-gpt/feedback"
    if not os.path.lexists(feedback):
        feedback.symlink_to(outbox)


if __name__ == "__main__":
    main()
