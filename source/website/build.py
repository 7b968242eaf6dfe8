"""Build the course as static pages: `make site`, or `python source/website/build.py [--only 03] [--out FOLDER]`.

Lessons and exercises come with their stored outputs. Live views are run once to get at their data, in about two
minutes, and kept in build/site-views until a cell or the library changes.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from builder.project import ROOT, Project  # noqa: E402  the path is set above
from website.pages import write_all  # noqa: E402


def main() -> int:
    """Write the sources, then let Sphinx make pages of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="notebooks whose names begin so, for a quick look")
    parser.add_argument("--out", type=Path, default=ROOT / "build/site", help="where the pages go")
    options = parser.parse_args()
    try:
        from sphinx.cmd.build import main as sphinx
    except ImportError:
        print('the site needs Sphinx; run make site, or pip install -e ".[site]"', file=sys.stderr)
        return 1
    source = options.out.parent / f"{options.out.name}-source"
    shutil.rmtree(source, ignore_errors=True)
    write_all(Project.read(), source, options.only)
    shutil.rmtree(options.out, ignore_errors=True)
    choices = ["-q", "-b", "html", "-c", str(HERE), "-d", str(options.out.parent / f"{options.out.name}-doctrees")]
    choices += ["-D", f"html_static_path={HERE / 'static'},{source / '_static'}"]
    code = sphinx([*choices, "-W", "--keep-going", str(source), str(options.out)])
    if code == 0:
        (options.out / ".nojekyll").touch()  # else GitHub Pages leaves out folders that begin with _
        print(f"{options.out}/index.html; look at it with: python -m http.server --directory {options.out}")
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
