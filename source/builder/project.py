"""Where the project lives: the address and the tag, from which badges, README and first cells are stamped.

Both stand in pyproject.toml and nowhere else: `[project.urls] Repository`, and `version`, whose tag is "v" + version.
"""

from __future__ import annotations

import re
import textwrap
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

SETUP = '''\
#@title In Google Colab this cell installs the course; anywhere else it does nothing.
keep_in_drive = False #@param {{type:"boolean"}}
try:
    import google.colab
except ImportError:
    pass
else:
    import subprocess, sys
    from importlib.metadata import distributions

    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    here = {{d.name.lower(): d.version for d in distributions()}}
    needs = """
{requirements}
    """
    missing = [need for need in needs.split() if need.split(">")[0] not in here]
    if missing:  # What Colab itself stands on keeps the version that is there.
        kept = [f"{{name}}=={{here[name]}}" for name in ("torch", "numpy", "ipython", "ipywidgets") if name in here]
        subprocess.run([*pip, *missing, *kept], check=True)
    subprocess.run([*pip, "--no-deps", "gptlib-course @ git+{repository}@{tag}"], check=True)
    if keep_in_drive:  # what you train and save then outlives this machine
        import os
        from google.colab import drive

        drive.mount("/content/drive")
        os.makedirs("/content/drive/MyDrive/inside-gpt", exist_ok=True)
        os.chdir("/content/drive/MyDrive/inside-gpt")
'''


class BuildError(ValueError):
    """Something that keeps a notebook from being built; the message is one sentence for its author."""


@dataclass(frozen=True)
class Project:
    """The project below `root`, with the address and the tag that its pyproject.toml gives."""

    root: Path
    repository: str
    tag: str
    requirements: tuple[str, ...]

    @classmethod
    def read(cls, root: Path = ROOT) -> Project:
        """Read pyproject.toml below `root`; raises BuildError when the address has not the expected form."""
        settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        repository = settings.get("urls", {}).get("Repository", "")
        if not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", repository):
            raise BuildError(
                f"Repository = {repository!r} in pyproject.toml is not of the form https://github.com/OWNER/NAME; "
                "set it under [project.urls]"
            )
        return cls(root, repository, f"v{settings['version']}", tuple(settings.get("dependencies", ())))

    def colab(self, path: str) -> str:
        """Give the address at which Colab opens the notebook `path`, relative to the root, as of the tag."""
        return f"{self.repository.replace('github.com', 'colab.research.google.com/github')}/blob/{self.tag}/{path}"

    def setup(self) -> str:
        """Give the code of every notebook's first code cell."""
        needs = textwrap.fill(" ".join(self.requirements), 100, initial_indent=" " * 8, subsequent_indent=" " * 8)
        return SETUP.format(requirements=needs, repository=self.repository, tag=self.tag).rstrip()

    def stamp(self, text: str, path: str) -> str:
        """Fill `{{badge}}`, `{{repository}}` and `{{tag}}` in the words of the notebook `path`.

        The badge is a link in words: a picture would be fetched from outside each time the notebook is opened.
        """
        values = {"badge": f"[Open in Colab]({self.colab(path)})", "repository": self.repository, "tag": self.tag}

        def value(found: re.Match[str]) -> str:
            if found[1] not in values:
                raise BuildError(
                    f"{found[0]} is no stamp; the stamps are {', '.join(f'{{{{{name}}}}}' for name in values)}"
                )
            return values[found[1]]

        return re.sub(r"\{\{([a-z_]{3,})\}\}", value, text)
