"""How the documentation is built: Markdown by MyST, API pages from docstrings, in furo."""

from __future__ import annotations

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
