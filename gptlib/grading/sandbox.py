"""A sandbox around the code of a submission, made by bubblewrap.

Inside there is Python, PyTorch, NumPy and the side of the grader that knows no answer; all of it read-only. There is no
network, no other process, no environment, no terminal, a scratch folder of limited size, and nobody's rights. Its
processes are limited in time, memory, number and the size of their files.
"""

import importlib.metadata
import os
import re
import select
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO, Any

from gptlib.grading import wire

MEMORY = 1 << 30  # bytes that one process may ask for beyond what PyTorch takes, and all together may hold
PROCESSES = 16
SCRATCH = 32 << 20
MOST_BYTES = 64 << 20  # that one exercise may send
START_SECONDS = 60.0
NOBODY = "65534"
PACKAGES = ("torch", "numpy", "regex")  # what answers may import, beside the standard library
_ROOMS = ("checks/probing.py", "grading/wire.py", "grading/inside.py")
_START = "import sys; sys.path[:0] = sys.argv[3:]; from gptlib.grading.inside import main; main()"


class NoSandboxError(RuntimeError):
    """A sandbox cannot be had here, or did not start."""


class TooMuchError(RuntimeError):
    """A submission has used more memory, or sent more, than it may."""


def problem() -> str:
    """Say why no sandbox can be had on this machine; an empty string when it can."""
    if sys.platform != "linux":
        return f"there is no bubblewrap for {sys.platform}; grade on Linux"
    program = shutil.which("bwrap")
    if program is None:
        return "bubblewrap is missing; install it, on Debian and Ubuntu with apt install bubblewrap"
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        return "setpriv (of util-linux) is missing, which gives up the rights of root; or grade as another user"
    if "--size" not in _help(program):
        return f"{program} is too old, for it cannot limit the size of a folder; 0.8 or newer is needed"
    with tempfile.TemporaryDirectory() as folder:
        command = [*_command(make_kit(Path(folder))), "-c", "print(6 * 7)"]
        try:
            tried = subprocess.run(command, capture_output=True, text=True, timeout=30, env={}, check=False)
        except subprocess.TimeoutExpired:
            return "bubblewrap is installed and did not start within 30 s"
    if tried.stdout == "42\n":
        return ""
    reason = (tried.stderr.strip().splitlines() or [f"exit code {tried.returncode}"])[-1]
    return f"bubblewrap is installed and cannot make a sandbox here ({reason}); the host may forbid user namespaces"


def make_kit(folder: Path) -> Path:
    """Write into a folder what a sandbox needs of this library: the probing side, and nothing that knows an answer."""
    source = Path(__file__).resolve().parents[1]
    for room in _ROOMS:
        there = folder / "gptlib" / room
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / room, there)
    (folder / "gptlib" / "__init__.py").write_text("def check(*args, **options): return None\n", encoding="utf-8")
    for name in ("checks", "grading"):
        (folder / "gptlib" / name / "__init__.py").touch()
    (folder / "empty").mkdir(exist_ok=True)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder


class Sandbox:
    """One sandbox, for one submission. It starts when it is first needed, and again after it was ended.

    Args:
        kit: the folder that `make_kit` wrote.
        unsafe: run without a sandbox, with the rights of whoever grades.
    """

    def __init__(self, kit: Path, *, unsafe: bool = False) -> None:
        self.kit, self.unsafe = kit, unsafe
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it, unless it runs already.

        Raises:
            NoSandboxError: it did not start.
        """
        if self.process is not None:
            return
        self.buffer, self.received = bytearray(), 0
        with tempfile.TemporaryFile() as errors:
            self.process = self._open(errors)
            assert self.process.stdin is not None
            assert self.process.stdout is not None
            for pipe in (self.process.stdin, self.process.stdout):
                os.set_blocking(pipe.fileno(), False)
            with suppress(OSError):  # when memory runs out all the same, the host ends this first
                Path(f"/proc/{self.process.pid}/oom_score_adj").write_text("1000", encoding="ascii")
            try:
                ready = self.receive(time.monotonic() + START_SECONDS)
            except (TimeoutError, wire.MalformedError, TooMuchError):
                ready = None
            if ready is None or ready.header != {"ready": True}:
                self.stop()
                errors.seek(0)
                said = errors.read().decode(errors="replace").strip().splitlines()
                raise NoSandboxError(f"the sandbox did not start: {(said or ['it said nothing'])[-1]}")
        self.idle = _memory(self.process.pid)

    def send(self, frame: bytes, deadline: float) -> None:
        """Hand a frame in.

        Raises:
            TimeoutError: it was not taken before the deadline.
            BrokenPipeError: the sandbox has ended.
        """
        assert self.process is not None
        assert self.process.stdin is not None
        view = memoryview(frame)
        while view:
            _, ready, _ = select.select([], [self.process.stdin], [], _until(deadline))
            if ready:
                with suppress(BlockingIOError):
                    view = view[os.write(self.process.stdin.fileno(), view[: 1 << 16]) :]

    def receive(self, deadline: float) -> wire.Frame | None:
        """Return the next frame, None when the sandbox has ended.

        Raises:
            TimeoutError: none came before the deadline.
            TooMuchError: it sends too much, or holds too much memory.
            MalformedError: what came is no frame.
        """
        assert self.process is not None
        assert self.process.stdout is not None
        while True:
            frame = self._next()
            if frame is not None:
                return frame
            ready, _, _ = select.select([self.process.stdout], [], [], min(0.1, _until(deadline)))
            if ready:
                piece = os.read(self.process.stdout.fileno(), 1 << 20)
                if not piece:
                    return None
                self.buffer += piece
                self.received += len(piece)
                if self.received > MOST_BYTES:
                    raise TooMuchError(f"sent more than {MOST_BYTES >> 20} MB of results")
            elif self.buffer or self.received:
                held = _memory(self.process.pid) - self.idle
                if held > MEMORY:
                    raise TooMuchError(f"held more than {MEMORY >> 20} MB of memory")

    def forget(self) -> None:
        """Begin to count anew what is sent: another exercise follows."""
        self.received = 1

    def stop(self) -> None:
        """End it and everything in it."""
        process, self.process = self.process, None
        if process is None:
            return
        process.kill()
        for pipe in (process.stdin, process.stdout):
            with suppress(OSError):
                pipe.close()  # type: ignore[union-attr]
        process.wait()

    def _next(self) -> wire.Frame | None:
        size = wire.PREFIX.size
        if len(self.buffer) < size:
            return None
        head, body = wire.PREFIX.unpack(self.buffer[:size])
        if head > wire.MAX_HEADER or body > wire.MAX_BODY:
            raise wire.MalformedError("a frame that is too long")
        if len(self.buffer) < size + head + body:
            return None
        frame = wire.unpack(bytes(self.buffer[size : size + head]), bytes(self.buffer[size + head :][:body]))
        del self.buffer[: size + head + body]
        return frame

    def _open(self, errors: IO[bytes]) -> "subprocess.Popen[bytes]":
        options: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": errors, "cwd": "/"}
        if self.unsafe:
            packages = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
            command = [sys.executable, "-I", "-B", "-c", _START, str(MEMORY), "0", str(self.kit), *packages]
            return subprocess.Popen(command, env=_ENVIRONMENT, start_new_session=True, **options)
        command = [*_command(self.kit), "-c", _START, str(MEMORY), str(_process_limit()), "/kit", "/packages"]
        return subprocess.Popen(command, env={}, start_new_session=True, **options)


_ENVIRONMENT = {
    "HOME": "/tmp",
    "LANG": "C.UTF-8",
    "PATH": "/python/bin",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
}


def _command(kit: Path) -> list[str]:
    """Return the command line that starts Python in a sandbox.

    Root mounts what the sandbox needs in an outer one first and then becomes nobody, who may not be able to reach
    these files where they are. Everybody else needs the inner one only.
    """
    program = shutil.which("bwrap") or "bwrap"
    mounts, links = _mounts(kit), _links()
    inner = [
        *("--unshare-all", "--unshare-user", "--uid", NOBODY, "--gid", NOBODY, "--hostname", "sandbox"),
        *(["--disable-userns"] if "--disable-userns" in _help(program) else []),
        *("--new-session", "--die-with-parent", "--cap-drop", "ALL", "--clearenv"),
        *(word for name, value in _ENVIRONMENT.items() for word in ("--setenv", name, value)),
        *("--setenv", "LD_LIBRARY_PATH", "/python/lib"),
    ]
    ending = [
        *("--proc", "/proc", "--dir", "/dev"),
        *(word for name in ("null", "zero", "urandom") for word in ("--dev-bind", f"/dev/{name}", f"/dev/{name}")),
        *("--size", str(SCRATCH), "--tmpfs", "/tmp", "--remount-ro", "/", "--chdir", "/tmp"),
        *("--", "/python/bin/python3", "-I", "-S", "-B"),
    ]
    if os.geteuid() != 0:
        return [program, *inner, *_arguments(mounts, links), *ending]
    helper = shutil.which("setpriv") or "setpriv"
    outer = [*mounts, (program, "/outer/bwrap"), (helper, "/outer/setpriv")]
    become_nobody = ["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--inh-caps", "-all", "--no-new-privs"]
    same = [(there, there) for _, there in mounts]
    return [
        *(program, "--unshare-pid", "--die-with-parent", *_arguments(outer, links)),
        *("--perms", "1777", "--tmpfs", "/tmp", "--dev-bind", "/proc", "/proc", "--dev-bind", "/dev", "/dev"),
        *("--", "/outer/setpriv", *become_nobody),
        *("/outer/bwrap", *inner, *_arguments(same, links), *ending),
    ]


def _arguments(mounts: list[tuple[str, str]], links: list[tuple[str, str]]) -> list[str]:
    # bubblewrap makes parent folders that only their owner may enter, so they are made here.
    parents = {str(parent) for _, there in [*mounts, *links] for parent in Path(there).parents} - {"/"}
    return [
        *(word for folder in sorted(parents) for word in ("--perms", "0755", "--dir", folder)),
        *(word for source, there in mounts for word in ("--ro-bind", source, there)),
        *(word for target, there in links for word in ("--symlink", target, there)),
    ]


def _mounts(kit: Path) -> list[tuple[str, str]]:
    """Return what is mounted and where; later ones cover earlier ones."""
    base, standard = Path(sys.base_prefix), Path(sysconfig.get_path("stdlib"))
    program = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    mounts = [(folder, folder) for folder in _library_folders()]
    mounts.append((str(standard), f"/python/{standard.relative_to(base)}"))
    if base != Path("/usr"):
        mounts += [(str(path), f"/python/lib/{path.name}") for path in sorted(base.glob("lib/*.so*")) if path.is_file()]
    mounts += [(program, "/python/bin/python3"), (str(kit / "gptlib"), "/kit/gptlib")]
    # Other installed packages may hold anything, this one too.
    hidden = ("site-packages", "dist-packages", "python3*/site-packages", "python3*/dist-packages")
    mounts += [
        (str(kit / "empty"), f"{there}/{path.relative_to(source)}")
        for source, there in list(mounts)
        for pattern in hidden
        for path in Path(source).glob(pattern)
        if path.is_dir() and not path.is_symlink()
    ]
    return mounts + [(str(path), f"/packages/{path.name}") for path in _package_paths()]


@cache
def _library_folders() -> tuple[str, ...]:
    """Return the folders of the system's shared libraries: those of which this process has loaded some."""
    import torch

    homes = (sys.prefix, sys.base_prefix, str(Path(torch.__file__).parents[1]))
    own = tuple(folder for folder in homes if folder not in ("/usr", "/usr/local"))
    maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    loaded = {line.split(maxsplit=5)[-1] for line in maps.splitlines() if ".so" in line}
    folders = {os.path.dirname(path) for path in loaded if path.startswith(("/usr/lib", "/lib"))}
    folders = {folder for folder in folders if not folder.startswith(own) and "-packages" not in folder}
    folders = {folder for folder in folders if "/python3" not in folder}
    folders |= {path for path in ("/usr/lib64", "/lib64") if os.path.isdir(path) and not os.path.islink(path)}
    return tuple(sorted(f for f in folders if not any(f.startswith(other + "/") for other in folders)))


def _links() -> list[tuple[str, str]]:
    return [(os.readlink(path), path) for path in ("/lib", "/lib64", "/usr/lib64") if os.path.islink(path)]


@cache
def _package_paths() -> tuple[Path, ...]:
    """Return the files and folders of PyTorch, NumPy and what these need."""
    names, found = list(PACKAGES), dict[str, list[Path]]()
    for name in names:
        if name in found:
            continue
        try:
            package = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        tops = {file.parts[0] for file in package.files or [] if file.parts[0] not in ("..", "__pycache__")}
        paths = [Path(str(package.locate_file(top))) for top in sorted(tops) if not top.endswith("-info")]
        found[name] = [path for path in paths if path.exists() and path.name != "gptlib" and path.suffix != ".pth"]
        needs = (need for need in package.requires or [] if "extra ==" not in need)
        names += [re.split(r"[^A-Za-z0-9_.-]", need, maxsplit=1)[0] for need in needs]
    every = {path.name: path for several in found.values() for path in several}
    return tuple(every[name] for name in sorted(every))


@cache
def _help(program: str) -> str:
    return subprocess.run([program, "--help"], capture_output=True, text=True, check=False).stdout


def _process_limit() -> int:
    """Return the limit on processes. Before Linux 5.14 those that the user has elsewhere count too."""
    release = [int(part) for part in re.findall(r"\d+", os.uname().release)[:2]]
    if release >= [5, 14]:
        return PROCESSES
    user = NOBODY if os.geteuid() == 0 else str(os.getuid())
    listed = subprocess.run(["ps", "-L", "-U", user, "-o", "lwp="], capture_output=True, text=True, check=False)
    return PROCESSES + len(listed.stdout.split())


def _memory(pid: int) -> int:
    """Return the bytes that a process and its descendants hold for themselves; what was shared at a fork counts too."""
    total = 0
    for each in _family(pid):
        with suppress(OSError, ValueError):
            for line in Path(f"/proc/{each}/status").read_text(encoding="utf-8", errors="replace").splitlines():
                if line.startswith(("RssAnon:", "RssShmem:")):
                    total += int(line.split()[1]) << 10
    return total


def _family(pid: int) -> Iterator[int]:
    yield pid
    with suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split():
            yield from _family(int(child))


def _until(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the time is over")
    return left
