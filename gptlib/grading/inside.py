"""The side of a sandbox on which answers run. It knows no right answer and is not believed.

PyTorch is imported once. Each exercise is then run in a fork of this process, made before any tensor was computed:
forking after that can hang. What an answer does to its own process ends with it.
"""

import builtins
import contextlib
import linecache
import math
import os
import resource
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

import torch

from gptlib.checks import probing
from gptlib.checks.probing import Raised, run
from gptlib.grading import wire

NOBODY = 65534


def main() -> None:
    """Serve exercises until the requests end."""
    memory, processes = (int(argument) for argument in sys.argv[1:3])
    requests, replies = os.dup(0), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):  # answers may print, and what they print goes nowhere
        os.dup2(nowhere, stream)
    for what, most in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 4 << 20), (resource.RLIMIT_NOFILE, 32)):
        resource.setrlimit(what, (most, most))
    if processes:
        resource.setrlimit(resource.RLIMIT_NPROC, (processes, processes))
    # In a process namespace of its own this process may end everything that an answer has left behind.
    alone = bool(processes) and os.getuid() == NOBODY and os.getppid() == 1
    wire.write(replies, wire.pack({"ready": True}))
    while frame := wire.read(requests):
        child = os.fork()
        if child == 0:
            _serve(frame, memory, requests, replies)
        _, status = os.waitpid(child, 0)
        with contextlib.suppress(OSError):
            os.kill(-1, signal.SIGKILL) if alone else os.killpg(child, signal.SIGKILL)
        with contextlib.suppress(OSError):
            while os.waitpid(-1, 0):
                pass
        if alone:  # the next exercise finds the scratch folder empty
            for path in os.listdir("/tmp"):
                with contextlib.suppress(OSError, RecursionError):
                    there = os.path.join("/tmp", path)
                    shutil.rmtree(there) if os.path.isdir(there) and not os.path.islink(there) else os.unlink(there)
        done = {"token": frame.header["token"], "ended": os.waitstatus_to_exitcode(status)}
        wire.write(replies, wire.pack(done))


def _serve(frame: wire.Frame, memory: int, requests: int, replies: int) -> None:
    """Answer one request, in a process that ends with it."""
    header, code = frame.header, 1
    try:
        os.setpgid(0, 0)
        seconds = math.ceil(header["seconds"]) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        if sys.platform == "linux":
            with open("/proc/self/statm", encoding="ascii") as file:
                most = int(file.read().split()[0]) * resource.getpagesize() + memory
            resource.setrlimit(resource.RLIMIT_AS, (most, most))

        def send(what: dict[str, Any], arrays: list[torch.Tensor]) -> None:
            wire.write(replies, wire.pack({"token": header["token"], **what}, arrays))

        def ask(what: dict[str, Any], arrays: list[torch.Tensor]) -> torch.Tensor:
            send(what, arrays)
            reply = wire.read(requests)
            if reply is None:
                os._exit(1)
            if "error" in reply.header:
                kind, message = reply.header["error"]
                found = getattr(builtins, kind, RuntimeError)
                raise found(message) if issubclass(found, Exception) else RuntimeError(message)
            return reply.arrays[0]

        answer, problem = _define(header)
        if answer is None:
            send({"cell": problem}, [])
        else:
            probe = _probe(header["probe"], header["probe_name"])
            for number, written in enumerate(header["cases"]):
                given = {n: wire.unwrap(v, frame.arrays, lambda i: _stand_in(i, ask)) for n, v in written.items()}
                what, arrays = wire.wrap_outcome(_outcome(probe, answer, given))
                try:
                    send({"case": number, **what}, arrays)
                except (ValueError, TypeError, RuntimeError, AttributeError) as error:
                    raised = wire.wrap_outcome(Raised(type(error).__name__, str(error)))[0]
                    send({"case": number, **raised}, [])
        code = 0
    finally:
        os._exit(code)


def _define(header: dict[str, Any]) -> tuple[Callable[..., Any] | None, dict[str, Any]]:
    """Run the imports and the answer's cell; return the function, or what is amiss."""
    space: dict[str, Any] = {"__name__": "answer", "check": lambda *args, **options: None}
    for statement in header["imports"]:
        with contextlib.suppress(ImportError):  # what is not in here was not needed, or is missed where it is used
            exec(statement, space)
    source, file = header["source"], f"<{header['exercise']}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    try:
        exec(compile(source, file, "exec"), space)
    except SyntaxError as error:
        return None, {"kind": "syntax", "message": str(error.msg), "line": error.lineno, "text": error.text or ""}
    except NotImplementedError:
        return None, {"kind": "nothing"}
    except BaseException as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
        words = {"type": type(error).__name__, "message": str(error)[:500], "line": lines[-1] if lines else None}
        return None, {"kind": "raised", **words}
    answer = space.get(header["function"])
    if answer is None:
        return None, {"kind": "nothing"}
    return (answer, {}) if callable(answer) else (None, {"kind": "no function", "type": type(answer).__name__})


def _probe(source: str, name: str) -> probing.Probe:
    space: dict[str, Any] = {**vars(probing), "torch": torch, "math": math, "Any": Any}
    exec(source, space)
    found: probing.Probe = space[name]
    return found


def _outcome(probe: probing.Probe, answer: Callable[..., Any], given: dict[str, Any]) -> probing.Outcome:
    try:
        return run(probe, answer, given)
    except BaseException as error:  # KeyboardInterrupt, and what an answer makes up
        return Raised(type(error).__name__, str(error))


Ask = Callable[[dict[str, Any], list[torch.Tensor]], torch.Tensor]


def _stand_in(number: int, ask: Ask) -> Callable[[torch.Tensor], Any]:
    """Return a function that is computed outside, where an answer cannot look; it can be differentiated once."""

    def call(x: torch.Tensor) -> torch.Tensor:
        return ask({"call": number}, [x])

    def pull(x: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        return ask({"pull": number}, [x, gradient])

    def function(x: torch.Tensor) -> Any:
        return _Call.apply(x, call, pull)  # type: ignore[no-untyped-call]

    return function


def _each(dimensions: tuple[Any, ...], size: int, function: Callable[..., torch.Tensor], *arrays: torch.Tensor) -> Any:
    """Call a function for each row of a batch, as `torch.func.vmap` needs it."""
    rows = [
        function(*(a if d is None else a.select(d, row) for a, d in zip(arrays, dimensions, strict=True)))
        for row in range(size)
    ]
    return torch.stack(rows), 0


class _Call(torch.autograd.Function):
    @staticmethod
    def forward(x: Any, call: Any, pull: Any) -> Any:
        return call(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        x, _, ctx.pull = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (x,) = ctx.saved_tensors
        return _Pull.apply(x, gradients[0], ctx.pull), None, None  # type: ignore[no-untyped-call]

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Any, call: Any, pull: Any) -> Any:
        return _each(in_dims[:1], info.batch_size, lambda row: _Call.apply(row, call, pull), x)  # type: ignore[no-untyped-call]


class _Pull(torch.autograd.Function):
    @staticmethod
    def forward(x: Any, gradient: Any, pull: Any) -> Any:
        return pull(x, gradient)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None: ...

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        raise NotImplementedError("this function can be differentiated once")

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Any, gradient: Any, pull: Any) -> Any:
        return _each(in_dims[:2], info.batch_size, lambda *rows: _Pull.apply(*rows, pull), x, gradient)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
