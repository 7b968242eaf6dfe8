"""Handing in and handing back through a folder that a class shares, without a service of its own.

    EXCHANGE/inbox/NAME/03_attention.ipynb     what NAME has handed in last; earlier versions are in .earlier/
    EXCHANGE/outbox/NAME/03_attention.html     what came of it

Who may write and read where is the business of the file system's rights: `classroom/` says how they are set. What lies
in the inbox is graded by `gptlib grade EXCHANGE/inbox`.
"""

import hashlib
import html
import json
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

from gptlib.checks.registry import exercises
from gptlib.grading.extract import UnreadableError, extract, read_bytes
from gptlib.grading.pages import page_of
from gptlib.grading.result import Result
from gptlib.grading.tables import write_text

_NAME = re.compile(r"[A-Za-z0-9_@+-][A-Za-z0-9_.@+-]{0,99}")


@dataclass(frozen=True)
class Receipt:
    """What was handed in, when, and by which number it can be told from every other version."""

    path: Path
    when: str  # UTC
    number: str  # the first digits of the file's SHA-256
    answered: int
    asked: int

    def __str__(self) -> str:
        """One sentence for the learner."""
        return (
            f"{self.path.name} was handed in on {self.when} UTC as number {self.number}; "
            f"{self.answered} of {self.asked} exercises have a cell"
        )


def hand_in(notebook: str | Path, exchange: str | Path, user: str) -> Receipt:
    """Put a copy of an exercise notebook where the instructor finds it; it replaces what was handed in before.

    Args:
        notebook: the learner's file.
        exchange: the folder that the class shares.
        user: whose it is.

    Raises:
        ValueError: the file is no exercise notebook, the name is none, or there is no place for it.
    """
    path, place = Path(notebook), _place(exchange, "inbox", user)
    try:
        data = read_bytes(path)
        found = extract(data, {each.id: each for each in exercises()})
    except UnreadableError as error:
        raise ValueError(f"{path} cannot be handed in: {error}") from None
    if not found.lesson:
        raise ValueError(f"{path} cannot be handed in: it answers no exercise of the course")
    asked = sum(each.lesson == found.lesson for each in exercises())
    target = place / _file_name(path, data)
    number = hashlib.sha256(data).hexdigest()[:12]
    try:
        if target.exists() and (before := target.read_bytes()) != data:
            when = time.strftime("%Y-%m-%dT%H-%M-%S", time.gmtime(target.stat().st_mtime))
            _whole(place / ".earlier" / f"{target.stem}-{when}-{hashlib.sha256(before).hexdigest()[:6]}.ipynb", before)
        _whole(target, data)
    except OSError as error:
        raise ValueError(f"{target} cannot be written ({error.strerror}); ask your instructor") from None
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(target.stat().st_mtime))
    return Receipt(target, when, number, len(found.sources), asked)


def hand_back(report: str | Path, exchange: str | Path) -> list[Path]:
    """Give every learner the page of each submission that was graded from the exchange's inbox.

    Args:
        report: the folder that `gptlib grade` wrote.
        exchange: the folder that the class shares.

    Returns:
        The pages that were handed back.

    Raises:
        ValueError: there are no grades, or none of submissions from this inbox.
    """
    grades, inbox = Path(report) / "grades.json", (Path(exchange) / "inbox").resolve()
    if not grades.is_file():
        raise ValueError(f"there are no grades in {report}; grade first: gptlib grade {inbox} --out {report}")
    pages = []
    for entry in json.loads(grades.read_text(encoding="utf-8")):
        path = Path(entry["submission"])
        where = path.absolute().parent.resolve()
        if where.parent != inbox:
            continue
        page = Path(report) / page_of(Result(entry["submission"]))
        target = _place(exchange, "outbox", where.name) / f"{path.stem}.html"
        # Without the way to everybody's grades, and without where the instructor keeps what.
        text = page.read_text(encoding="utf-8").replace(html.escape(entry["submission"]), html.escape(path.name))
        write_text(target, text.replace('<p><a href="../index.html">All submissions</a></p>', ""))
        pages.append(target)
    if not pages:
        raise ValueError(f"no graded submission comes from {inbox}; grade what lies there")
    return pages


def make_places(exchange: str | Path, user: str) -> tuple[Path, Path]:
    """Make a learner's two folders where they are missing, and return them: inbox and outbox.

    Raises:
        ValueError: the name is none.
    """
    made = tuple(Path(exchange) / box / _checked(user) for box in ("inbox", "outbox"))
    for folder in made:
        folder.mkdir(parents=True, exist_ok=True)
    return made[0], made[1]


def _place(exchange: str | Path, box: str, user: str) -> Path:
    folder = Path(exchange) / box / _checked(user)
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}; the class's hub makes it when {user} starts")
    return folder


def _checked(user: str) -> str:
    if not _NAME.fullmatch(user):
        raise ValueError(f"{user!r} is no name for a folder; use letters, digits and -_.@+")
    return user


def _file_name(path: Path, data: bytes) -> str:
    """The name under which the notebook was handed out, whatever the learner's copy is called."""
    metadata = json.loads(data.decode("utf-8-sig")).get("metadata")
    mark = metadata.get("gptlib") if isinstance(metadata, dict) else None
    source = mark.get("source") if isinstance(mark, dict) else None
    stem = Path(source).stem if isinstance(source, str) else path.stem
    return f"{re.sub(r'[^A-Za-z0-9_-]+', '-', stem)[:80] or 'notebook'}.ipynb"


def _whole(path: Path, data: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(data)
    os.replace(new, path)
