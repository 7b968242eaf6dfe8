"""How long grading takes: seconds for each submission and set, memory, and whether it stays flat.

    python benchmarks/grading.py --submissions 100 --jobs 2

A third of the submissions are right, a third are as handed out, a third hold a known mistake in each exercise.
"""

import argparse
import json
import os
import tempfile
import threading
import time
from pathlib import Path

from gptlib.grading import load_course
from gptlib.grading.run import grade

ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--submissions", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--set", default="03_attention", help="name of a notebook in exercises/ and solutions/")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_class(folder / "in", options.set, options.submissions)
        memory = Watch()
        memory.start()
        began = time.perf_counter()
        results = grade([folder / "in"], folder / "out", jobs=options.jobs)
        seconds = time.perf_counter() - began
        memory.stop()
    each = sorted(result.seconds for result in results)
    half = len(memory.seen) // 2
    print(f"{len(results)} submissions of {options.set}, {options.jobs} at a time, load before {load:.1f}")
    print(f"{seconds:.0f} s in all, {seconds / len(results):.2f} s for each submission")
    print(f"a submission from start to end: median {each[len(each) // 2]:.2f} s, longest {each[-1]:.2f} s")
    print(f"memory of all processes: at most {max(memory.seen[:half]):.0f} MB in the first half of the run, ", end="")
    print(f"{max(memory.seen[half:]):.0f} MB in the second")
    scores = sorted({result.score for result in results})
    print(f"scores: {', '.join(f'{score:g}' for score in scores)} of {results[0].max_score:g}")


def write_class(folder: Path, name: str, count: int) -> None:
    """Write the submissions, each in a student's folder."""
    stub, full = (
        json.loads((ROOT / kind / f"{name}.ipynb").read_text(encoding="utf-8")) for kind in ("exercises", "solutions")
    )
    known = load_course()
    for number in range(count):
        made = (full, stub, full)[number % 3]
        text = json.dumps(made)
        if number % 3 == 2:
            wrong = json.loads(text)
            for cell in wrong["cells"]:
                mark = cell["metadata"].get("gptlib", {})
                if mark.get("role") == "answer" and mark["exercise"] in known:
                    function = known[mark["exercise"]].function
                    source = "".join(cell["source"])
                    # The right result, a little off: no misconception matches, so all are tried.
                    cell["source"] = source + OFF.replace("NAME", function)
            text = json.dumps(wrong)
        there = folder / f"student{number:03}" / f"{name}.ipynb"
        there.parent.mkdir(parents=True)
        there.write_text(text, encoding="utf-8")


OFF = """

_right = NAME

def NAME(*args, **options):
    def off(value):
        if isinstance(value, tuple):
            return tuple(map(off, value))
        return value * 1.01 if isinstance(value, torch.Tensor) and value.is_floating_point() else value
    return off(_right(*args, **options))
"""


class Watch(threading.Thread):
    """Notes twice a second what this process and all below it hold, in MB; shared pages are counted in part."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen, self.ended = [0.0], threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.5):
            self.seen.append(sum(held(pid) for pid in family(os.getpid())) / 1024)

    def stop(self) -> None:
        self.ended.set()
        self.join()


def family(pid: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return [pid]
    return [pid, *(each for child in children for each in family(child))]


def held(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()
        return sum(float(line.split()[1]) for line in lines if line.startswith("Pss:"))
    except OSError:
        return 0.0


if __name__ == "__main__":
    main()
