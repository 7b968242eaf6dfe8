"""A machine without what only Linux has: the library is imported and used where those modules do not exist.

Windows itself is not at hand. Here a process hides what Windows lacks, so that an unguarded use fails.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HIDE = """
import os, signal, sys
for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None  # an import of it fails, as on Windows
for name in ("fork", "geteuid", "getuid", "killpg", "setsid", "sched_getaffinity"):
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGKILL", "SIGHUP", "SIGALRM", "SIGUSR1"):
    if hasattr(signal, name):
        delattr(signal, name)
import multiprocessing
multiprocessing.get_all_start_methods = lambda: ["spawn"]
"""
# What runs inside Linux's sandbox alone.
LINUX = {"gptlib.grading.inside"}


def run(code: str, *arguments: str, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **more}
    command = [sys.executable, "-c", HIDE + textwrap.dedent(code), *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


def test_every_module_is_imported_without_what_only_linux_has(tmp_path: Path) -> None:
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in (ROOT / "gptlib").rglob("*.py")}
    names = {name.removesuffix(".__init__") for name in names} - LINUX - {"gptlib.__main__", "gptlib.checks._runner"}
    code = (
        "import importlib, sys\nfor name in sys.argv[1:]:\n    importlib.import_module(name)\nprint(len(sys.argv) - 1)"
    )
    done = run(code, *sorted(names), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == len(names) > 100


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["doctor"], "Lessons can run."),
        (["generate", "tales", "--tokens", "20"], " "),
        (["check", str(ROOT / "exercises/00_welcome.ipynb")], "There is no answer yet"),
        (["train", "--corpus", "tales:200", "--preset", "tales", "--steps", "3", "--out", "run"], "3"),
    ],
    ids=lambda each: each[0],
)
def test_a_learners_commands_work_without_what_only_linux_has(tmp_path: Path, arguments: list[str], said: str) -> None:
    code = "import sys\nfrom gptlib.cli import main\nsys.argv[0] = 'gptlib'\nmain()"
    done = run(code, *arguments, cwd=tmp_path)
    assert done.returncode == (1 if arguments[0] == "check" else 0), done.stderr + done.stdout
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_the_library_opens_where_only_windows_encoding_is_known(tmp_path: Path) -> None:
    """A letter outside ASCII in a text, and a console that cannot say it: neither may end in a UnicodeError."""
    code = """
        import sys
        from gptlib.cli import main
        sys.argv[0] = "gptlib"
        main()
    """
    (tmp_path / "own.txt").write_text("Größe → ∑, " * 400, encoding="utf-8")
    more = {"PYTHONUTF8": "0", "PYTHONIOENCODING": "cp1252:strict", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
    options = ["--corpus", "own.txt", "--preset", "shakespeare-fast", "--steps", "2", "--out", "run"]
    done = run(code, "train", *options, cwd=tmp_path, **more)
    assert done.returncode == 0, done.stderr
    shown = run(code, "generate", "run", "--prompt", "e", "--tokens", "20", cwd=tmp_path, **more)
    assert "UnicodeEncodeError" not in shown.stderr
    assert shown.returncode == 0, shown.stderr


def test_paths_are_joined_by_pathlib() -> None:
    for path in sorted({*(ROOT / "gptlib").rglob("*.py")} - {ROOT / "gptlib/grading/inside.py"}):  # runs on Linux alone
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute):
                assert (node.value.attr, node.attr) != ("path", "join"), f"{path}:{node.lineno}"
            assert not (isinstance(node, ast.Attribute) and node.attr == "sep" and ast.unparse(node) == "os.sep"), path


def test_what_a_learner_types_needs_no_shell_of_linux() -> None:
    """Lessons and exercises call no shell: no `!command`, no `%%bash`, which Windows does not have."""
    for path in [*(ROOT / "source/lessons").glob("*.py"), *(ROOT / "source/exercises").glob("*.py")]:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"^\s*(# )?!\w|^\s*%%(bash|sh)\b|os\.system|shell=True", text, re.MULTILINE), path.name
