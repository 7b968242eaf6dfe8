"""Open JupyterLab on the learner's own copy of the course: `python source/lab.py [JupyterLab's options]`.

Notebooks and exercises are copied to work/ on first use. A file that is there already is never touched, so that an
update of the course cannot cost a learner an answer; to begin one afresh, rename your copy and start again.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WELCOME = "work/notebooks/00_welcome.ipynb"


def copy_course(root: Path = ROOT, work: Path | None = None) -> list[Path]:
    """Copy to `work` (work/ if None) every notebook and exercise that is not there yet; return the new files."""
    new = []
    for source in sorted([*root.glob("notebooks/*.ipynb"), *root.glob("exercises/*.ipynb")]):
        target = (work or root / "work") / source.relative_to(root)
        if not os.path.lexists(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            new.append(target)
    return new


def options(root: Path = ROOT) -> list[str]:
    """Give JupyterLab's options: the project as its root, and the welcome notebook first."""
    chosen = [f"--ServerApp.root_dir={root}", f"--LabApp.default_url=/lab/tree/{WELCOME}"]
    # JupyterLab refuses to run as root unless told; in a container there is often nobody else.
    if getattr(os, "geteuid", lambda: 1)() == 0:
        chosen.append("--allow-root")
    return chosen


def config_path() -> str:
    """Folders of settings for JupyterLab: somebody's own first, then the course's.

    A learner's first sight is the lesson, not a question about news, and nothing calls home.
    """
    places = [os.environ.get("JUPYTER_CONFIG_PATH", ""), str(ROOT / "source" / "jupyter")]
    return os.pathsep.join(filter(None, places))


if __name__ == "__main__":
    new = copy_course()
    if new:
        print(f"{len(new)} notebooks are new in work/, which is yours; nothing there is ever overwritten")
    from jupyterlab.labapp import main

    os.chdir(ROOT)
    os.environ["JUPYTER_CONFIG_PATH"] = config_path()
    sys.exit(main([*options(), *sys.argv[1:]]))
