"""The demonstration: the whole way from an upload to a deleted run, really done.

What it prints is what was run and what came of it. Shell commands go through ``bash -c`` in
the mounted directory, Python through the interpreter's own compiler.
"""

from flowfs.demo.show import run

__all__ = ["run"]
