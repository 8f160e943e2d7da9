"""How Sphinx makes a site of these pages: ``sphinx-build -W docs <directory>``."""

from flowfs import __version__

project = "flowfs"
author = "The flowfs developers"
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"flowfs {release}"
