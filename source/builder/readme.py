"""The parts of README.md that are written from pyproject.toml and source/, and so promise only what is there."""

from __future__ import annotations

import re

from builder.compose import Target, targets
from builder.project import BuildError, Project


def stamped(project: Project) -> str:
    """Give README.md with what stands between `<!-- NAME -->` and `<!-- end NAME -->` written anew."""
    text = (project.root / "README.md").read_text(encoding="utf-8")
    for name, part in {"clone": _clone(project), "pip": _pip(project), "lessons": _lessons(project)}.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
        if len(pattern.findall(text)) != 1:
            raise BuildError(f"README.md needs the lines <!-- {name} --> and <!-- end {name} --> once each")
        text = pattern.sub(lambda found, part=part: f"{found[1]}{part}\n{found[2]}", text)  # type: ignore[misc]
    return text


def _clone(project: Project) -> str:
    folder = project.repository.rsplit("/", 1)[1]
    return f"```sh\ngit clone {project.repository}\ncd {folder}\nmake lab\n```"


def _pip(project: Project) -> str:
    address = f'"git+{project.repository}@{project.tag}"'
    return f"```sh\npip install {address}\nuv pip install {address}\n```"


def _lessons(project: Project) -> str:
    rows: dict[str, dict[str, Target]] = {}
    for target in targets(project.root):
        rows.setdefault(target.source.stem, {})[target.kind] = target
    lines = ["| | lesson | exercises |", "|---|---|---|"]
    for stem in sorted(rows):
        lesson, exercise = (_links(rows[stem].get(kind), project) for kind in ("lesson", "exercise"))
        lines.append(f"| {stem.split('_')[0]} | {lesson} | {exercise} |")
    return "\n".join(lines)


def _links(target: Target | None, project: Project) -> str:
    if target is None:
        return ""
    title = re.search(r"^# # (.+)$", target.source.read_text(encoding="utf-8"), re.MULTILINE)
    if title is None:
        raise BuildError(f"{target.source.name} has no title; begin its first cell with '# # Title'")
    path = target.path.relative_to(project.root).as_posix()
    return f"[{title[1]}]({path}) · [open in Colab]({project.colab(path)})"
