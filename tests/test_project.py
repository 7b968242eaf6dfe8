"""What the project says about itself is so: versions, licences, README, the commands of the Makefile."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

import gptlib
import lab

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
CORPORA = [os.environ.get("GPTLIB_CACHE", ""), str(ROOT.parent / "shared/data")]


def text_files() -> Iterator[Path]:
    """The files that are written by hand, as git would see them."""
    folders = ["gptlib", "source", "tests", "classroom", ".ci"]
    for path in [*ROOT.glob("*"), *(path for folder in folders for path in (ROOT / folder).rglob("*"))]:
        if path.is_file() and path.suffix in {"", ".py", ".md", ".toml", ".txt", ".yml", ".yaml", ".js"}:
            yield path


# Versions


def test_the_version_is_the_same_wherever_it_stands() -> None:
    assert gptlib.__version__ == PROJECT["version"]
    values = yaml.safe_load((ROOT / "classroom/zero-to-jupyterhub.yaml").read_text(encoding="utf-8"))
    assert values["singleuser"]["image"]["tag"] == f"v{PROJECT['version']}"


def pins() -> list[Requirement]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if not line.startswith("#")]


def requirements() -> Iterator[Requirement]:
    for line in [
        *PROJECT["dependencies"],
        *(line for extra in PROJECT["optional-dependencies"].values() for line in extra),
    ]:
        if not line.startswith(PROJECT["name"]):
            yield Requirement(line)


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_every_requirement_is_pinned_once_at_a_version_that_it_allows(python: str, platform: str) -> None:
    surroundings = {"python_version": python, "python_full_version": f"{python}.1", "sys_platform": platform}
    chosen = [pin for pin in pins() if pin.marker is None or pin.marker.evaluate(surroundings)]
    assert len({pin.name for pin in chosen}) == len(chosen)
    versions = {pin.name: next(iter(pin.specifier)) for pin in chosen}
    assert {specifier.operator for specifier in versions.values()} == {"=="}
    for requirement in requirements():
        assert requirement.specifier.contains(Version(versions[requirement.name].version)), requirement


def test_requirements_are_floors_and_never_caps() -> None:
    for requirement in requirements():
        assert [specifier.operator for specifier in requirement.specifier] == [">="], requirement


def test_pins_name_no_address() -> None:
    assert not re.search(r"https?:|file:|@", (ROOT / "constraints.txt").read_text(encoding="utf-8"))


def test_every_package_that_the_library_imports_is_a_dependency() -> None:
    named = {Requirement(line).name for line in PROJECT["dependencies"]} | {"gptlib", "IPython"}
    named |= {"PIL", "cycler", "traitlets"}  # which matplotlib and ipywidgets themselves stand on
    optional = {"datasets", "gguf", "bertviz", "accelerate", "google"}
    for path in (ROOT / "gptlib").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                modules = [node.module or ""]
            tops = {module.split(".")[0] for module in modules}
            assert tops <= named | optional | sys.stdlib_module_names, f"{path.name} imports {tops}"


def test_conda_gets_what_make_install_gets() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert environment["dependencies"][-1] == {"pip": ["-c constraints.txt", "-e .[test]"]}
    assert '-e ".[test]"' in MAKEFILE
    assert "-c constraints.txt" in MAKEFILE


# What is delivered


def test_importing_the_library_is_cheap() -> None:
    code = "import gptlib, sys; print(sorted({'torch', 'numpy', 'transformers', 'matplotlib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("name", [name for name in dir(gptlib) if not name.startswith("_")])
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(gptlib, name) is not None


def test_the_package_holds_the_library_with_its_data_and_nothing_else(tmp_path: Path) -> None:
    for name in ["gptlib", "pyproject.toml", "README.md", "LICENSE"]:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, tmp_path / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", "out", "."]
    subprocess.run(command, cwd=tmp_path, check=True)
    (wheel,) = (tmp_path / "out").glob("gptlib_course-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    files = (path for path in (ROOT / "gptlib").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    library = {path.relative_to(ROOT).as_posix() for path in files if not path.name.startswith(".")}
    assert {name for name in names if ".dist-info/" not in name} == library
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_both_licences_are_stated() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "MIT License" in text
    assert "creativecommons.org/licenses/by/4.0/legalcode" in text
    assert PROJECT["license"] == "MIT AND CC-BY-4.0"


def test_the_address_of_the_project_stands_in_one_place() -> None:
    owner = PROJECT["urls"]["Repository"].removeprefix("https://github.com/")
    holders = {path.relative_to(ROOT).as_posix() for path in text_files() if owner in path.read_text(encoding="utf-8")}
    assert holders == {"pyproject.toml", "README.md"}  # stamped into README.md, as test_course.py checks


# README


def test_every_link_in_the_documents_leads_somewhere() -> None:
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "classroom/README.md"]:
        for target in re.findall(r"\]\(([^)]+)\)", path.read_text(encoding="utf-8")):
            there = path.parent / target.partition("#")[0]
            assert target.startswith(("https://", "#")) or there.is_file(), f"{path.name}: {target}"


def test_every_make_target_that_the_documents_name_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    for name in ["README.md", "CONTRIBUTING.md", "Makefile"]:
        text = (ROOT / name).read_text(encoding="utf-8")
        assert set(re.findall(r"(?:^|`|# )make ([a-z-]+)", text, re.MULTILINE)) <= targets


def test_the_command_lines_of_the_readme_do_what_it_says(tmp_path: Path) -> None:
    """Every block marked `sh test` runs, in order, in one folder; `exit=N` gives the exit code of its last command."""
    blocks = re.findall(r"^```sh test(?: exit=(\d+))?\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 4
    for folder in ["notebooks", "exercises"]:
        shutil.copytree(ROOT / folder, tmp_path / folder)
    lab.copy_course(tmp_path)
    cache = next((folder for folder in CORPORA if Path(folder, "tinyshakespeare/input.txt").is_file()), "")
    surroundings = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    surroundings |= {"GPTLIB_CACHE": cache} if cache else {}
    for code, commands in blocks:
        run = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=tmp_path,
            env=surroundings,
            capture_output=True,
            text=True,
            timeout=1800,
        )
        assert run.returncode == int(code or 0), f"{commands}\n{run.stdout}\n{run.stderr}"
        assert run.stdout.strip(), commands
        assert "Traceback" not in run.stderr
    result = json.loads((tmp_path / "runs/shakespeare/result.json").read_text())
    assert result["val_loss"] <= 1.88


# make lab


def test_notebooks_are_copied_once_and_what_a_learner_wrote_is_never_touched(tmp_path: Path) -> None:
    for name in ["notebooks/00_welcome.ipynb", "exercises/03_attention.ipynb", "solutions/03_attention.ipynb"]:
        path = tmp_path / name
        path.parent.mkdir()
        path.write_text("as published")
    copied = [path.relative_to(tmp_path).as_posix() for path in lab.copy_course(tmp_path)]
    assert copied == ["work/exercises/03_attention.ipynb", "work/notebooks/00_welcome.ipynb"]
    mine = tmp_path / "work/exercises/03_attention.ipynb"
    mine.write_text("my answers")
    (tmp_path / "exercises/03_attention.ipynb").write_text("an update")
    (tmp_path / "exercises/04_many_heads.ipynb").write_text("new")
    assert [path.name for path in lab.copy_course(tmp_path)] == ["04_many_heads.ipynb"]
    assert mine.read_text() == "my answers"
    assert lab.copy_course(tmp_path) == []


def test_jupyterlab_has_the_project_as_its_root_and_opens_the_welcome(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000, raising=False)
    assert lab.options(ROOT) == [
        f"--ServerApp.root_dir={ROOT}",
        "--LabApp.default_url=/lab/tree/work/notebooks/00_welcome.ipynb",
    ]
    monkeypatch.setattr(os, "geteuid", lambda: 0, raising=False)
    assert "--allow-root" in lab.options(ROOT)


def test_jupyterlab_asks_nothing_about_news_and_own_settings_go_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from jupyter_server.services.config.manager import ConfigManager

    def settings(*before: Path) -> dict[str, Any]:
        monkeypatch.setenv("JUPYTER_CONFIG_PATH", os.pathsep.join(map(str, before)))
        places = [os.path.join(place, "labconfig") for place in lab.config_path().split(os.pathsep)]
        overrides = ConfigManager(read_config_path=places).get("default_setting_overrides")
        return dict(overrides["@jupyterlab/apputils-extension:notification"])

    assert settings() == {"fetchNews": "false", "checkForUpdates": False}
    own = tmp_path / "labconfig" / "default_setting_overrides.json"
    own.parent.mkdir()
    own.write_text(json.dumps({"@jupyterlab/apputils-extension:notification": {"fetchNews": "true"}}))
    assert settings(tmp_path)["fetchNews"] == "true"


# Makefile


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder with a Makefile, and a python3 that only notes how it was called."""
    for name in ["Makefile", "pyproject.toml", "constraints.txt"]:
        shutil.copyfile(ROOT / name, tmp_path / name)
    return tmp_path


def program(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", "-C", str(folder), *arguments], capture_output=True, text=True)


def test_a_python_that_is_too_old_or_absent_gets_one_sentence(elsewhere: Path) -> None:
    old = program(elsewhere / "python3.9", 'if [ "$1" = --version ]; then echo Python 3.9.2; else exit 1; fi')
    for python, seen in [(str(old), "'Python 3.9.2'"), ("python-that-is-not-there", "not found")]:
        run = make(elsewhere, "install", f"PYTHON={python}")
        assert run.returncode != 0
        assert f"Inside GPT needs Python 3.11 or newer, and {python} is" in run.stderr
        assert seen in run.stderr
        assert "PYTHON=python3.12" in run.stderr
        assert not (elsewhere / ".venv").exists()


def test_install_works_once_and_then_only_when_something_changed(elsewhere: Path) -> None:
    fake = f'echo "$@" >> {elsewhere}/calls; [ "$2" != venv ] || {{ mkdir -p .venv/bin; cp "$0" .venv/bin/python; }}'
    python = program(elsewhere / "bin/python3", fake)
    calls = elsewhere / "calls"
    assert make(elsewhere, "install", f"PYTHON={python}").returncode == 0
    first = calls.read_text()
    assert "-m venv .venv" in first
    assert "-c constraints.txt --quiet pip setuptools" in first
    assert "-c constraints.txt --no-build-isolation -e .[test]" in first
    calls.unlink()
    assert make(elsewhere, "install", f"PYTHON={python}").returncode == 0
    assert not calls.exists()
    os.utime(elsewhere / "constraints.txt", (2e9, 2e9))
    assert make(elsewhere, "install", f"PYTHON={python}").returncode == 0
    assert "venv" not in calls.read_text()
    assert "-e .[test]" in calls.read_text()


def test_an_address_given_to_make_reaches_pip(elsewhere: Path) -> None:
    fake = f'echo "$PIP_EXTRA_INDEX_URL" >> {elsewhere}/calls; mkdir -p .venv/bin; cp -n "$0" .venv/bin/python'
    python = program(elsewhere / "bin/python3", fake)
    make(elsewhere, "install", f"PYTHON={python}", "PIP_EXTRA_INDEX_URL=https://example.org/cpu")
    assert set((elsewhere / "calls").read_text().split()) == {"https://example.org/cpu"}


def test_make_alone_lists_what_there_is(elsewhere: Path) -> None:
    run = make(elsewhere)
    assert run.returncode == 0
    assert re.findall(r"^make ([a-z-]+)", run.stdout, re.MULTILINE)[:3] == ["lab", "test", "install"]


def test_ci_installs_its_packages_from_one_list_and_its_script_parses() -> None:
    subprocess.run(["bash", "-n", str(ROOT / ".ci/run")], check=True)
    packages = [line for line in (ROOT / ".ci/packages").read_text().splitlines() if not line.startswith("#")]
    assert {"chromium", "bubblewrap"} <= set(packages)
    assert packages == sorted(packages)
    assert not any(package in (ROOT / ".ci/run").read_text() for package in packages if package != "make")
