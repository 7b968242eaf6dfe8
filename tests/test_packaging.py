"""The course comes whole by every way of installing it: a wheel, conda's file, the pins, containers."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PYTHONS = ("3.11", "3.12", "3.13")
# conda's name of what pip calls otherwise
CONDA = {"pytorch": "torch", "pytorch-cpu": "torch", "matplotlib-base": "matplotlib", "python-gguf": "gguf"}


def tracked() -> list[str]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    return [name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of the files that git tracks, built as `pip install .` builds it."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in tracked():
        if not name.endswith(".ipynb"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    command = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [made] = out.glob("*.whl")
    return made


def test_a_wheel_holds_every_file_of_the_library_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
        metadata = archive.read(next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))).decode()
        assert any(name.endswith(".dist-info/licenses/LICENSE") for name in archive.namelist())
    assert inside == {name for name in tracked() if name.startswith("gptlib/")}
    needed = [line.partition(": ")[2] for line in metadata.splitlines() if line.startswith("Requires-Dist")]
    assert {Requirement(line).name for line in needed if "extra ==" not in line} == {
        Requirement(line).name for line in PROJECT["dependencies"]
    }


def test_what_is_installed_from_a_wheel_works_away_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    there, empty = tmp_path / "there", tmp_path / "empty"
    empty.mkdir()
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", str(there), str(wheel)], check=True)
    code = """
        import gptlib
        from gptlib import generate, load_model, tales
        from gptlib.checks import check, exercises
        from gptlib.measured import recorded
        from gptlib.widgets import AttentionViewer, bertviz_view
        model, tokenizer = load_model("tales")
        view = AttentionViewer(model, tokenizer, "Otto lived in the lighthouse.")
        html = bertviz_view(model, tokenizer, "Otto lived")._repr_mimebundle_()
        facts = [recorded("positions") is not None, "export default" in str(view._esm), len(view._css) > 999]
        facts += [len(str(html)) > 100_000, tales.log_prob(tales.sample(seed=0, n=1)[0].text) < 0]
        print(gptlib.__file__, len(exercises()), *facts)
    """
    environment = {**os.environ, "PYTHONPATH": str(there), "OMP_NUM_THREADS": "1"}
    lines = [line.strip() for line in code.splitlines() if line.strip()]
    run = {"cwd": empty, "env": environment, "capture_output": True, "text": True}
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], **run)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stderr
    place, exercises, *facts = done.stdout.split()
    assert Path(place).is_relative_to(there)
    assert int(exercises) >= 30
    assert facts == ["True"] * 5
    shown = subprocess.run([sys.executable, "-m", "gptlib", "--help"], **run)  # type: ignore[call-overload]
    assert shown.returncode == 0
    assert "generate" in shown.stdout


# conda


def conda_file() -> tuple[list[str], list[str]]:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    conda = [line for line in environment["dependencies"] if isinstance(line, str)]
    return conda, next(line["pip"] for line in environment["dependencies"] if isinstance(line, dict))


MATCH = """
import json, sys
from rattler import MatchSpec
specs = [MatchSpec(line, strict=True) for line in json.loads(sys.argv[1])]
print(json.dumps([[spec.name.normalized, str(spec.version or "")] for spec in specs]))
"""


def test_condas_file_agrees_with_the_project(packages_beside: Callable[..., Path]) -> None:
    """What conda installs is Python, pip, and what the project asks for by a name and a range that conda can read."""
    conda, pip = conda_file()
    overlay = packages_beside("py-rattler==0.28.0")
    environment = {**os.environ, "PYTHONPATH": str(overlay)}
    done = subprocess.run(
        [sys.executable, "-c", MATCH, json.dumps(conda)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    read = dict(json.loads(done.stdout))
    assert {"python", "pip"} <= read.keys()
    wanted = {"python": PROJECT["requires-python"]}
    extras = [line for lines in PROJECT["optional-dependencies"].values() for line in lines]
    wanted |= {Requirement(line).name: str(Requirement(line).specifier) for line in PROJECT["dependencies"] + extras}
    for name, version in read.items():
        assert CONDA.get(name, name) in wanted, f"{name} is nothing that pyproject.toml asks for"
        assert wanted[CONDA.get(name, name)] in version, f"{name} {version}"
    assert read["python"] == f"{PROJECT['requires-python']},<3.{int(PYTHONS[-1].partition('.')[2]) + 1}"
    for line in pip:  # the rest comes by pip, from the same pins as everywhere
        option, value = line.split()
        if option == "-c":
            assert (ROOT / value).is_file()
        else:
            assert option == "-e"
            assert set(re.fullmatch(r"\.\[(.*)\]", value)[1].split(",")) <= set(PROJECT["optional-dependencies"])  # type: ignore[index]


# Pins


@pytest.mark.slow
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("platform", ["linux", "windows", "macos"])
def test_the_pins_resolve(platform: str, python: str, packages_beside: Callable[..., Path], tmp_path: Path) -> None:
    uv = packages_beside("uv==0.13.9") / "bin/uv"
    command = [uv, "pip", "compile", "--quiet", "--python-platform", platform, "--python-version", python]
    command += ["--all-extras", "-c", "constraints.txt", "--no-annotate", "--no-header", "pyproject.toml"]
    environment = {**os.environ, "MACOSX_DEPLOYMENT_TARGET": "14.0"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pinned = {Requirement(line).name for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()}
    found = [Requirement(line.split(";")[0]) for line in done.stdout.splitlines() if line and line[0] != "-"]
    assert len(found) > 100
    assert {each.name for each in found if each.name not in pinned} == set()


@pytest.mark.slow
def test_uv_installs_the_project_as_it_is(wheel: Path, packages_beside: Callable[..., Path], tmp_path: Path) -> None:
    uv = packages_beside("uv==0.13.9") / "bin/uv"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, tmp_path / "venv"], check=True)
    # Nothing that the project stands on: torch alone is gigabytes. What resolves is the test above.
    command = [uv, "pip", "install", "--quiet", "--no-deps", "-c", "constraints.txt", "."]
    source = tmp_path / "source"
    for name in tracked():
        if not name.endswith(".ipynb"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    environment = {**os.environ, "VIRTUAL_ENV": str(tmp_path / "venv")}
    done = subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [site] = (tmp_path / "venv/lib").glob("python*/site-packages/gptlib")
    assert (site / "assets/tales").is_dir()
    assert (site / "widgets/static/attention_viewer.js").is_file()


# Containers


def dockerfile() -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines if line)]


def test_the_container_runs_as_an_ordinary_user_and_copies_what_is_there() -> None:
    steps = dockerfile()
    assert [rest for name, rest in steps if name == "USER"][-1] == "${NB_USER}"
    defaults = dict(rest.split("=", 1) for name, rest in steps if name == "ARG" and "=" in rest)
    assert int(defaults["NB_UID"]) >= 1000
    for name, rest in steps:
        if name == "COPY":
            *sources, _ = [word for word in shlex.split(rest) if not word.startswith("--")]
            assert all((ROOT / source).exists() for source in sources), rest
    assert json.loads(next(rest for name, rest in steps if name == "CMD"))[1] == "source/lab.py"


def test_the_containers_commands_are_sound_shell() -> None:
    for name, rest in dockerfile():
        if name == "RUN":
            subprocess.run(["bash", "-n", "-c", rest], check=True)


def test_the_container_needs_for_make_install_no_more_than_was_copied_before_it(tmp_path: Path) -> None:
    """`make install` stands on a layer of its own, so that a changed lesson costs no new installation."""
    steps = dockerfile()
    install = next(i for i, (name, rest) in enumerate(steps) if name == "RUN" and "make install" in rest)
    copied = [word for name, rest in steps[:install] if name == "COPY" for word in shlex.split(rest) if word[0] != "-"]
    names = {word for word in copied if word not in (".", "./")}
    read = {"pyproject.toml", "constraints.txt", "Makefile", "gptlib", PROJECT["readme"], *PROJECT["license-files"]}
    assert read <= names


def test_codespaces_opens_the_same_container() -> None:
    settings = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text(encoding="utf-8"))
    build = settings["build"]
    assert (ROOT / ".devcontainer" / build["dockerfile"]).resolve() == ROOT / "Dockerfile"
    stages = [rest.split(" AS ")[1] for name, rest in dockerfile() if name == "FROM"]
    assert build["target"] in stages
    assert (
        settings["remoteUser"] == dict(r.split("=", 1) for n, r in dockerfile() if n == "ARG" and "=" in r)["NB_USER"]
    )
    assert settings["postCreateCommand"] == "make install"


@pytest.mark.slow
def test_binder_reads_the_root(packages_beside: Callable[..., Path], tmp_path: Path) -> None:
    overlay = packages_beside(
        *("jupyter-repo2docker==2026.4.0", "docker", "python-json-logger", "ruamel.yaml", "semver", "toml"),
        *("chardet", "escapism", "entrypoints", "iso8601", "jinja2", "requests", "traitlets", "urllib3"),
    )
    for name in tracked():
        if "/" not in name:
            shutil.copy(ROOT / name, tmp_path / name)
    environment = {**os.environ, "PYTHONPATH": str(overlay)}
    command = [sys.executable, "-m", "repo2docker", "--no-build", "--debug", "."]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()[-1] in done.stderr + done.stdout
