"""Sphinx's settings. Nothing that a page shows comes from another host: formulas are MathML, and search is Sphinx's."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from builder.project import Project  # noqa: E402  the path is set above

project = "Inside GPT"
copyright = "MIT (code), CC BY 4.0 (text, figures and weights)"
release = version = Project.read().tag
html_title = "Inside GPT"
language = "en"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
nb_execution_mode = "off"
nb_merge_streams = True
nb_mime_priority_overrides = [("html", "text/html", 0), ("html", "text/markdown", 1)]
nb_render_markdown_format = "myst"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints = "description"
suppress_warnings = ["myst.header", "ref.python", "misc.highlighting_failure"]

html_theme = "furo"
# html_static_path is given by build.py, which knows where the pictures are
html_css_files = ["live.css"]
html_js_files = [("live.js", {"type": "module"})]
html_copy_source = False
html_show_sourcelink = False
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"


def _formula(visitor: Any, node: Any) -> None:
    import docutils.nodes
    from latex2mathml.converter import convert

    block = node.tagname == "math_block"
    mathml = convert(node.astext(), display="block" if block else "inline")
    visitor.body.append(f'<div class="gl-formula">{mathml}</div>' if block else mathml)
    raise docutils.nodes.SkipNode


def setup(app: Any) -> None:
    """Let formulas be written as MathML, which browsers show by themselves."""
    app.add_html_math_renderer("mathml", (_formula, None), (_formula, None))


html_math_renderer = "mathml"
