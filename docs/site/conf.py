"""Sphinx's configuration; see build.py."""

project = "resnetlab"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "README"
source_suffix = {".md": "markdown"}
exclude_patterns = ["docs/site", "tests", "src"]
default_role = "code"
html_theme = "furo"
html_title = "resnetlab"
html_show_sphinx = False
html_copy_source = False
myst_heading_anchors = 4
myst_enable_extensions = ["fieldlist"]
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
suppress_warnings = ["toc.not_included", "myst.header", "misc.highlighting_failure"]


def setup(app):
    """A colon in the docstring of a property does not end a type, as it would in Google's style."""

    def keep_colons(app, what, name, obj, options, lines):
        if what in ("property", "attribute") and lines:
            lines[0] = lines[0].replace(": ", ":\N{NO-BREAK SPACE}")

    app.connect("autodoc-process-docstring", keep_colons, priority=100)  # before napoleon
