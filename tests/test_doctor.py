import shutil
from typing import Any

import pytest
import torch

from gptlib import cli
from gptlib import doctor as room


def findings() -> dict[str, room.Finding]:
    return {finding.name: finding for finding in room.examine()}


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> tuple[Any, str]:
    monkeypatch.setattr("sys.argv", ["gptlib", "doctor"])
    with pytest.raises(SystemExit) as exit:
        cli.main()
    return exit.value.code, capsys.readouterr().out


def test_this_machine_is_described() -> None:
    found = findings()
    assert torch.__version__ in found["packages"].text
    for name in ("Python", "packages", "device", "precision", "bundled model", "checks", "corpora"):
        assert found[name].ok, found[name]
        assert found[name].needed
    assert "parameters" in found["bundled model"].text
    assert "tokens/s" in found["bundled model"].text


def test_lessons_can_run_here(capsys, monkeypatch) -> None:
    code, out = run(capsys, monkeypatch)
    assert code == 0
    assert out.endswith("\nLessons can run.\n")
    assert "MISSING" not in out
    assert len(out.splitlines()) == len(findings()) + 2


def test_a_missing_package_is_named_with_the_way_out(capsys, monkeypatch) -> None:
    version = room._version
    monkeypatch.setattr(room, "_version", lambda name: "" if name in ("anywidget", "bertviz") else version(name))
    found = findings()
    assert not found["packages"].ok
    assert found["packages"].text == "missing: anywidget; run make install"
    assert not found["bertviz"].ok
    assert not found["bertviz"].needed
    code, out = run(capsys, monkeypatch)
    assert code == 1
    assert "MISSING  packages" in out
    assert "      -  bertviz" in out
    assert out.endswith("\nLessons cannot run until the lines marked MISSING are mended.\n")


def test_without_torch_it_still_answers(monkeypatch) -> None:
    version = room._version
    monkeypatch.setattr(room, "_version", lambda name: "" if name == "torch" else version(name))
    found = findings()
    assert found["packages"].text == "missing: torch; run make install"
    assert "device" not in found


def test_what_raises_is_a_finding_and_no_traceback(capsys, monkeypatch) -> None:
    def broken() -> str:
        raise RuntimeError("the file is damaged\nand more")

    monkeypatch.setattr(room, "_bundled", broken)
    code, out = run(capsys, monkeypatch)
    assert code == 1
    assert "MISSING  bundled model  RuntimeError: the file is damaged" in out


def test_graders_need_a_sandbox_and_learners_do_not(monkeypatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    found = findings()["sandbox"]
    assert not found.ok
    assert not found.needed
    assert "bubblewrap is missing" in found.text


def test_a_full_disk_is_said(monkeypatch) -> None:
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=5_000_000))
    assert not findings()["disk"].ok
