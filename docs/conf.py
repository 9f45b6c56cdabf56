"""Configuration of Sphinx: pages in Markdown (MyST), API pages from docstrings, theme furo."""

from __future__ import annotations

import re
from typing import Any

from midstreamer import __version__

project = "Midstreamer"
copyright = "the Midstreamer authors"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
root_doc = "index"
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_numpy_docstring = True
napoleon_google_docstring = False
default_role = "literal"

html_theme = "furo"
html_title = "Midstreamer"
html_copy_source = False

# Two classes may have fields of the same name. Sphinx would warn about each reference to such a
# field, because it does not know which one is meant.
suppress_warnings = ["ref.python"]


def readable(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Change the lines of a docstring, in place, so that Sphinx renders them as they were meant.

    In docstrings of modules, indented text, such as a drawing, becomes a literal block. Vertical
    bars are escaped where reStructuredText would read them as a substitution.
    """
    made: list[str] = []
    drawing = False
    for line in lines:
        if what == "module":
            indented = line.startswith("    ") or (drawing and not line.strip())
            if indented != drawing:
                made += ["", "::", ""] if indented else [""]
            drawing = indented
        made.append(line if drawing else re.sub(r"(?<![`\w])\|(?=\w[^|`]*\|)", r"\\|", line))
    lines[:] = made


def setup(app: Any) -> None:
    """Let Sphinx call `readable` for each docstring."""
    app.connect("autodoc-process-docstring", readable)
