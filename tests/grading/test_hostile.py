# ruff: noqa: E501  # an attack is read best as its author would write it
"""Submissions that try to earn what they did not, or to harm: each is an answer, what it tries, and what comes of it.

Every one runs in the sandbox of all others, and after it an honest answer in the same sandbox must earn full marks.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

MASK = "attention.causal_mask"
TIDY = "import os\nassert os.listdir('/tmp') == []\ndef causal_mask(T):\n    return torch.full((T, T), -math.inf).triu(1)\n"
HONEST = "def causal_mask(T):\n    return torch.full((T, T), -math.inf).triu(1)\n"
STATUSES = ("incorrect", "unanswered", "error", "timeout", "refused")


@dataclass(frozen=True)
class Attack:
    tries: str
    source: str
    exercise: str = MASK
    statuses: tuple[str, ...] = STATUSES
    seconds: float = 30.0


def mask(before: str, result: str = "torch.zeros(T, T)") -> str:
    """Write an answer that does something and then returns a wrong mask."""
    lines = "\n".join(f"    {line}" for line in before.strip().splitlines())
    return f"def causal_mask(T):\n{lines}\n    return {result}\n"


ANYTHING = """
class Anything(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        return True
    def __eq__(self, other): return True
    __hash__ = None
    shape = property(lambda self: self)
    def __getattr__(self, name): return lambda *a, **k: True
"""
# By a name that is made up at run time: a plain import is refused before anything is run.
PROTOCOL = """
import importlib, sys, os
wire = importlib.import_module("gptlib.grading.wire")
frame = sys._getframe()
token = None
while frame is not None:
    header = frame.f_locals.get("header")
    if isinstance(header, dict) and "token" in header:
        token = header["token"]
    frame = frame.f_back
"""
EVERY_PIPE = """
import os
for fd in range(3, 32):
    try: os.write(fd, {what})
    except OSError: pass
"""

ATTACKS = {
    # Objects that are equal to everything
    "always_equal_object": Attack(
        "an object that equals everything", "class E:\n    def __eq__(self, o): return True\n" + mask("", "E()")
    ),
    "always_equal_in_builtins": Attack(
        "builtins that say yes",
        "import builtins\nbuiltins.all = builtins.any = lambda *a: True\nbuiltins.isinstance = lambda *a: True\n"
        + mask("", "object()"),
    ),
    "tensor_that_agrees": Attack(
        "a tensor subclass that agrees with all", ANYTHING + mask("", "torch.zeros(T, T).as_subclass(Anything)")
    ),
    "class_called_tensor": Attack(
        "a class that calls itself Tensor",
        "class Tensor(float): pass\nTensor.__module__ = 'torch'\n" + mask("", "Tensor(0)"),
    ),
    "nan_everywhere": Attack(
        "NaN, which compares with nothing", mask("", "torch.full((T, T), math.nan)"), statuses=("incorrect",)
    ),
    # Patches
    "patched_comparison": Attack(
        "patched torch comparisons",
        "torch.allclose = torch.equal = torch.isclose = lambda *a, **k: True\n"
        "torch.Tensor.all = torch.Tensor.__bool__ = lambda *a, **k: True\n" + mask(""),
    ),
    "patched_numpy": Attack(
        "patched numpy", "import numpy\nnumpy.allclose = numpy.array_equal = lambda *a, **k: True\n" + mask("")
    ),
    "patched_torch_constructors": Attack(
        "patched torch constructors", "torch.zeros = torch.ones = torch.tensor = lambda *a, **k: 0\n" + mask("", "0")
    ),
    "patched_probe": Attack(
        "patched probing functions",
        "import importlib\np = importlib.import_module('gptlib.checks.probing')\np.tensor = p.run = lambda *a, **k: {'mask': True}\n"
        + mask(""),
    ),
    "patched_json": Attack(
        "patched JSON writer",
        "import json\nreal = json.dumps\njson.dumps = lambda v, **k: real({**v, 'score': 2, 'status': 'correct'} "
        "if isinstance(v, dict) else v)\n" + mask(""),
    ),
    "patched_wire": Attack(
        "a patched border that claims a grade",
        "import importlib\nw = importlib.import_module('gptlib.grading.wire')\nreal = w.pack\n"
        "w.pack = lambda h, a=(): real({**h, 'score': 2, 'status': 'correct', 'passed': True}, a)\n" + mask(""),
    ),
    "replaced_modules": Attack(
        "replaced modules", "import sys\nsys.modules['torch'] = sys.modules['gptlib'] = sys\n" + mask("")
    ),
    # The pipe
    "forged_frames": Attack(
        "forged result frames with the true token",
        mask(
            PROTOCOL + "for number in range(50):\n"
            "    for fd in range(3, 32):\n"
            "        try: wire.write(fd, wire.pack({'token': token, 'case': number, 'values': {'mask': ['correct', 2]}}))\n"
            "        except OSError: pass"
        ),
    ),
    "forged_end": Attack(
        "a forged end with full marks",
        mask(
            PROTOCOL + "for fd in range(3, 32):\n"
            "    try: wire.write(fd, wire.pack({'token': token, 'ended': 0, 'score': 2, 'status': 'correct'}))\n"
            "    except OSError: pass"
        ),
    ),
    "forged_case_numbers": Attack(
        "results for inputs that there are not",
        mask(
            PROTOCOL + "for fd in range(3, 32):\n"
            "    try: wire.write(fd, wire.pack({'token': token, 'case': -1, 'values': {}}))\n"
            "    except OSError: pass"
        ),
    ),
    "forged_report": Attack(
        "a printed report", mask("import json\nprint(json.dumps({'status': 'correct', 'score': 2}), flush=True)")
    ),
    "garbage_in_every_pipe": Attack("garbage in every pipe", mask(EVERY_PIPE.format(what="b'\\xff' * 4096"))),
    "pickle_in_every_pipe": Attack(
        "a pickle that runs code when read",
        "class P:\n    def __reduce__(self):\n        import os\n        return os.system, ('touch {marker}',)\n"
        + mask("import pickle\n" + EVERY_PIPE.format(what="pickle.dumps(P())"), "P()"),
    ),
    "flooded_pipe": Attack(
        "an endless stream of well-formed frames",
        mask(
            PROTOCOL + "big = wire.pack({'token': 'other'}, [torch.zeros(1 << 20)])\n"
            "while True:\n"
            "    for fd in (3, 4, 5, 6):\n"
            "        try: wire.write(fd, big)\n"
            "        except OSError: pass"
        ),
        statuses=("error", "timeout"),
    ),
    "closed_pipes": Attack("closed pipes", mask("import os\nos.closerange(0, 32)"), statuses=("error",)),
    "wrong_dtypes": Attack("a dtype that does not cross", mask("", "torch.zeros(T, T, dtype=torch.uint16)")),
    "huge_result": Attack("a result of 400 MB", mask("", "torch.zeros(10_000, 10_000)")),
    "endless_view": Attack("a view of 10^15 numbers", mask("", "torch.zeros(1).expand(10**15)")),
    "many_dimensions": Attack("a tensor of 60 dimensions", mask("", "torch.zeros([1] * 60)")),
    # Ending things
    "exit_in_cell": Attack("os._exit in the cell", "import os\nos._exit(0)\n", statuses=("error",)),
    "exit_in_call": Attack("os._exit in the call", mask("import os; os._exit(0)"), statuses=("error",)),
    "system_exit": Attack("sys.exit", mask("import sys; sys.exit(0)"), statuses=("error",)),
    "keyboard_interrupt": Attack("KeyboardInterrupt", mask("raise KeyboardInterrupt"), statuses=("error",)),
    "own_base_exception": Attack(
        "an exception that cannot be shown",
        "class B(BaseException):\n    def __str__(self): raise B\n    __repr__ = __str__\n" + mask("raise B"),
    ),
    "kills_the_server": Attack("killing its parent", mask("import os; os.kill(os.getppid(), 9)"), statuses=("error",)),
    "kills_everything": Attack(
        "killing everything", mask("import os; os.kill(-1, 9); os.kill(1, 9)"), statuses=("error",)
    ),
    "stops_the_server": Attack(
        "stopping its parent",
        mask("import os; os.kill(os.getppid(), 19)"),
        seconds=4,
        statuses=("timeout", "incorrect"),
    ),
    "segmentation_fault": Attack("a null pointer", mask("import ctypes; ctypes.string_at(0)"), statuses=("error",)),
    "deep_recursion": Attack(
        "recursion without an end",
        "import sys\nsys.setrecursionlimit(10**9)\ndef f(): return [f()]\n" + mask("f()"),
        statuses=("error",),
    ),
    "leaves_an_exit_handler": Attack("a handler at exit", "import atexit\natexit.register(lambda: 1 / 0)\n" + mask("")),
    # Time
    "endless_loop": Attack("an endless loop", mask("while True: pass"), statuses=("timeout",), seconds=2),
    "endless_cell": Attack("an endless loop in the cell", "while True: pass", statuses=("timeout",), seconds=2),
    "endless_sleep": Attack("sleep", mask("import time; time.sleep(10**6)"), statuses=("timeout",), seconds=2),
    "ignores_signals": Attack(
        "a loop that ignores signals",
        mask(
            "import signal\nfor s in range(1, 64):\n    try: signal.signal(s, signal.SIG_IGN)\n    except Exception: pass\nwhile True: pass"
        ),
        statuses=("timeout",),
        seconds=2,
    ),
    "endless_regular_expression": Attack(
        "a regular expression that never ends",
        mask("import re; re.match('(a+)+$', 'a' * 60 + 'b')"),
        statuses=("timeout",),
        seconds=3,
    ),
    # Processes
    "fork_bomb": Attack(
        "a fork bomb",
        mask("import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"),
        seconds=4,
        statuses=("timeout", "error", "refused"),
    ),
    "thread_bomb": Attack(
        "threads without end",
        mask("import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(99,)).start()"),
        seconds=10,
        statuses=("error", "timeout"),
    ),
    "daemon": Attack(
        "a daemon that outlives it and writes on",
        mask(
            "import os\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        while True:\n"
            "            for fd in (3, 4, 5, 6):\n                try: os.write(fd, b'junk')\n                except OSError: pass\n    os._exit(0)"
        ),
        statuses=("incorrect", "refused", "timeout"),
    ),
    "runs_a_shell": Attack(
        "a shell",
        mask("import subprocess; subprocess.run('touch {marker}', shell=True, check=True)"),
        statuses=("error",),
    ),
    # Memory and disk
    "a_terabyte": Attack("one terabyte at once", mask("bytearray(1 << 40)"), statuses=("error",)),
    "grows_for_ever": Attack(
        "memory without end", mask("kept = []\nwhile True: kept.append(bytearray(1 << 24))"), statuses=("error",)
    ),
    "grows_in_children": Attack(
        "memory without end in many processes",
        mask(
            "import os\nfor _ in range(12):\n    try: os.fork()\n    except OSError: break\n"
            "kept = []\nwhile True:\n    try: kept.append(bytearray(1 << 22))\n    except MemoryError: pass"
        ),
        seconds=30,
        statuses=("refused", "timeout", "error"),
    ),
    "shared_memory": Attack(
        "shared memory without end",
        mask(
            "import mmap\nkept = []\nwhile True:\n    kept.append(mmap.mmap(-1, 1 << 24))\n    kept[-1].write(b'x' * (1 << 24))"
        ),
        statuses=("error", "refused"),
    ),
    "fills_the_disk": Attack(
        "a full disk",
        mask(
            "for number in range(10**6):\n    with open(f'/tmp/{number}', 'wb') as file: file.write(b'x' * (1 << 20))"
        ),
        statuses=("error",),
    ),
    "one_large_file": Attack(
        "a file of a terabyte",
        mask("import os\nwith open('/tmp/large', 'wb') as file: os.truncate(file.fileno(), 1 << 40)"),
        statuses=("error",),
    ),
    "fills_device_folder": Attack(
        "files among the devices", mask("open('/dev/full-of-it', 'wb').write(b'x')"), statuses=("error",)
    ),
    "writes_everywhere": Attack(
        "writing where it may not",
        mask(
            "import os\nwrote = []\nfor folder in ('/', '/kit', '/packages/torch', '/python', '/usr', '/proc/sys/kernel', '{host}'):\n"
            "    try:\n        open(os.path.join(folder, 'written'), 'w'); wrote.append(folder)\n    except OSError: pass\n"
            "assert not wrote, wrote"
        ),
        statuses=("incorrect",),
    ),
    # Looking for answers
    "imports_the_library": Attack(
        "the library's own function", "from gptlib import causal_mask\n", statuses=("refused",)
    ),
    "imports_by_another_name": Attack(
        "the library by a name put together",
        mask("import importlib", "importlib.import_module('gptl' + 'ib.attention').causal_mask(T)"),
        statuses=("error",),
    ),
    "imports_the_reference": Attack(
        "the reference by a name put together",
        mask(
            "import importlib",
            "importlib.import_module('gptl' + 'ib.checks.sets.attention.causal_mask').EXERCISE.reference(T)",
        ),
        statuses=("error",),
    ),
    "searches_the_disk": Attack(
        "looking for answers on the disk",
        mask(
            "import os\nnames = [os.path.join(at, f) for at, _, files in os.walk('/') for f in files "
            "if at[:5] != '/proc' and f.endswith(('.py', '.ipynb', '.pyc'))]\n"
            "hits = [n for n in names if 'gptlib' in n and not n.startswith('/kit/') or n.endswith(('causal_mask.py', '.ipynb'))]\n"
            "own = [n for n in names if n.startswith('/kit/')]\n"
            "assert not hits, hits\nassert len(own) == 6, own\n"
            "text = ''.join(open(n).read() for n in own)\nassert 'triu' not in text and 'Misconception(' not in text"
        ),
        statuses=("incorrect",),
    ),
    "looks_into_frames": Attack(
        "the callers' variables",
        mask(
            "import sys\nframe, names = sys._getframe(), set()\nwhile frame is not None:\n"
            "    names |= set(frame.f_locals) | set(frame.f_globals)\n    frame = frame.f_back\n"
            "assert not names & {'reference', 'expected', 'misconceptions', 'EXERCISE', 'note', 'seed'}, names"
        ),
        statuses=("incorrect",),
    ),
    "looks_into_memory": Attack(
        "every object in memory",
        mask(
            "import gc\nkinds = {type(o).__name__ for o in gc.get_objects()}\n"
            "assert not kinds & {'Exercise', 'Misconception', 'Property', 'Case'}, kinds"
        ),
        statuses=("incorrect",),
    ),
    "reads_secrets": Attack(
        "the environment and other processes",
        mask(
            "import os\nassert 'GPTLIB_TEST_SECRET' not in os.environ\n"
            "found = [p for p in os.listdir('/proc') if p.isdigit()]\nassert len(found) <= 4, found\n"
            "for p in found:\n"
            "    try: text = open(f'/proc/{p}/environ').read()\n    except OSError: continue\n"
            "    assert 'GPTLIB_TEST_SECRET' not in text\n"
            "for path in ('/etc/passwd', '/etc/shadow', '/root', '/home', '{host}'): assert not os.path.exists(path), path"
        ),
        statuses=("incorrect",),
    ),
    "uses_the_network": Attack(
        "the network",
        mask(
            "import socket\nfor address in (('127.0.0.1', {port}), ('1.1.1.1', 53)):\n"
            "    try: socket.create_connection(address, 2); raise SystemExit('connected')\n    except OSError: pass\n"
            "try: socket.getaddrinfo('example.org', 80); raise SystemExit('resolved')\nexcept OSError: pass"
        ),
        statuses=("incorrect",),
    ),
    "gains_rights": Attack(
        "more rights",
        mask(
            "import ctypes, os\nc = ctypes.CDLL(None, use_errno=True)\nassert os.getuid() == 65534\n"
            "assert c.unshare(0x10000000) != 0\nassert c.setuid(0) != 0\nassert c.mount(b'none', b'/tmp', b'tmpfs', 0, None) != 0\n"
            "assert c.chroot(b'/tmp') != 0\n"
            "status = open('/proc/self/status').read()\nassert 'CapEff:\\t0000000000000000' in status\nassert 'NoNewPrivs:\\t1' in status"
        ),
        statuses=("incorrect",),
    ),
    "raises_its_limits": Attack(
        "higher limits",
        mask(
            "import resource\nfor what in (resource.RLIMIT_AS, resource.RLIMIT_NPROC, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE):\n"
            "    assert resource.getrlimit(what)[1] != resource.RLIM_INFINITY, what\n"
            "    try: resource.setrlimit(what, (-1, -1)); raise SystemExit('raised')\n    except (ValueError, OSError): pass"
        ),
        statuses=("incorrect",),
    ),
    # Knowing the inputs
    "only_the_practice_inputs": Attack(
        "right for the inputs of practice and wrong for others",
        mask("", "torch.full((T, T), -math.inf).triu(1) if T in {practice} else torch.zeros(T, T)"),
        statuses=("incorrect",),
    ),
    "answers_by_rote": Attack(
        "the truths of practice by heart, in their order",
        "truths = iter({truths} * 9)\ndef leaks(attention, T, C): return next(truths)\n",
        exercise="attention.leaks",
        statuses=("incorrect",),
    ),
    "counts_in_a_file": Attack(
        "a count in a file",
        "def leaks(attention, T, C):\n    with open('/tmp/count', 'a+b') as file:\n        file.write(b'x')\n"
        "        return {truths}[(file.tell() - 1) % len({truths})]\n",
        exercise="attention.leaks",
        statuses=("incorrect",),
    ),
    "looks_into_the_hidden_function": Attack(
        "the mask of the hidden attention",
        "import gc, inspect\ndef look(thing, depth):\n    if isinstance(thing, torch.Tensor) and thing.dim() == 2 and thing.isinf().any(): return thing\n"
        "    if isinstance(thing, dict) and 'mask' in thing: return thing['mask']\n"
        "    parts = [] if depth == 0 else gc.get_referents(thing)\n"
        "    return next((found for found in (look(part, depth - 1) for part in parts) if found is not None), None)\n"
        "def leaks(attention, T, C):\n"
        "    found = getattr(attention, 'parameters', None) or look(attention, 4)\n"
        "    assert found is None, found\n    return True\n",
        exercise="attention.leaks",
        statuses=("incorrect",),
    ),
    "overloads_the_hidden_function": Attack(
        "a hidden function made to compute something enormous",
        "def leaks(attention, T, C):\n    return bool(attention(torch.zeros(1_000_000, C)).any())\n",
        exercise="attention.leaks",
        statuses=("error",),
    ),
    "forges_hidden_calls": Attack(
        "calls of hidden functions that there are not",
        mask(
            PROTOCOL + "for fd in range(3, 32):\n"
            "    try: wire.write(fd, wire.pack({'token': token, 'call': 99}, [torch.zeros(1)]))\n"
            "    except OSError: pass"
        ),
        statuses=("refused",),
    ),
    # Text
    "nested_too_deep": Attack(
        "brackets that break a parser", "x = " + "(" * 30_000 + ")" * 30_000, statuses=("error", "timeout")
    ),
    "no_python": Attack("no Python at all", "def causal_mask(T: return {{", statuses=("error",)),
    "a_long_answer": Attack("a megabyte of source", "#" * 1_000_000 + "\n" + HONEST, statuses=("refused",)),
    "script_in_message": Attack(
        "a script in an exception's words",
        mask("raise ValueError('<script>alert(1)</script>\\x1b[2J\\u202e\\ud800=cmd()')"),
        statuses=("error",),
    ),
}


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[int, list[object]]]:
    """Listen on the host; whoever connects is written down."""
    listener, seen = socket.create_server(("127.0.0.1", 0)), list[object]()

    def accept() -> None:
        while True:
            try:
                seen.append(listener.accept()[1])
            except OSError:
                return

    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()[1], seen
    listener.close()


def practice_knowledge() -> tuple[set[int], list[bool]]:
    from gptlib.checks import find_exercise
    from gptlib.checks.practice import practice_cases

    lengths = {int(case.given["T"]) for case in practice_cases(find_exercise(MASK))}
    truths = ["does not leak" not in case.note for case in practice_cases(find_exercise("attention.leaks"))]
    return lengths, truths


LONG = (
    "endless_cell",
    "endless_sleep",
    "endless_regular_expression",
    "grows_in_children",
    "flooded_pipe",
    "thread_bomb",
)


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in LONG else n for n in ATTACKS])
def test_it_gains_nothing_and_harms_nothing(name, graded, server, tmp_path, monkeypatch):
    monkeypatch.setenv("GPTLIB_TEST_SECRET", "do not tell")
    attack, marker = ATTACKS[name], tmp_path / "marker"
    lengths, truths = practice_knowledge()
    source = attack.source
    for word, value in (
        *(("{marker}", marker), ("{host}", tmp_path), ("{port}", server[0])),
        *(("{practice}", lengths), ("{truths}", truths)),
    ):
        source = source.replace(word, str(value))
    assert not [word for word in ("{marker}", "{truths}") if word in source]
    began = time.monotonic()
    report = graded(attack.exercise, source, seconds=attack.seconds)
    assert time.monotonic() - began < attack.seconds + 60
    assert report.status in attack.statuses, str(report)
    assert report.status in STATUSES
    assert report.score == 0, str(report)
    assert len(report.message) > 15
    assert list(tmp_path.iterdir()) == []  # neither the marker nor anything else
    assert server[1] == []
    assert graded(MASK, TIDY).status == "correct"


def test_there_are_enough_of_them():
    assert len(ATTACKS) - len(LONG) >= 40
    assert len({attack.tries for attack in ATTACKS.values()}) == len(ATTACKS)


def test_nothing_is_left_running(sandbox, graded):
    assert graded(MASK, mask("import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(10**6)")).score == 0
    inside = [pid for pid in _descendants(sandbox.process.pid) if b"gptlib" in _command(pid)]
    sandbox.stop()
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}/status").exists() and not _zombie(pid) for pid in inside):
        assert time.monotonic() < deadline, [(pid, _command(pid)) for pid in inside]
        time.sleep(0.05)


def _descendants(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
    return [pid, *(each for child in children for each in _descendants(int(child)))]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _zombie(pid: int) -> bool:
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return True


def test_what_comes_out_is_plain(graded):
    from gptlib.grading.result import clean

    report = graded(MASK, ATTACKS["script_in_message"].source)
    message = clean(report.as_dict())["message"]
    assert "<script>" in message  # pages escape it
    assert not {"\x1b", "\u202e", "\ud800"} & set(message)
    json.dumps(message).encode("ascii")
    assert os.linesep == "\n"
