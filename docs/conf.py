"""How Sphinx makes a site of these pages: ``sphinx-build -W docs <directory>``."""

from flowfs import __version__

project = "flowfs"
author = "The flowfs developers"
release = __version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 3
# The notebook shows what it has shown when it was run: a test runs it anew.
nb_execution_mode = "off"
html_theme = "furo"
html_title = f"flowfs {release}"
html_show_copyright = False
# What `scripts/manpages` makes of two of the pages.
man_pages = [
    ("command", "flowfs", "a workflow service as a file system", "", 1),
    ("mounting", "flowfs-mount", "mount a workflow service as a directory", "", 1),
]
