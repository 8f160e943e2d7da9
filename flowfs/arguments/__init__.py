"""The arguments of a run as documents: read, checked against the declarations, written.

Pure: nothing here talks to a service. The canonical form of arguments is a list of
``{"name": str, "value": Any}`` in the order given.
"""

from flowfs.arguments.declarations import Uploads, check, template
from flowfs.arguments.document import Argument, Declarations, dump, normalize, parse
from flowfs.arguments.scanner import Progress, Scanner, State, scan

__all__ = [
    "Argument",
    "Declarations",
    "Progress",
    "Scanner",
    "State",
    "Uploads",
    "check",
    "dump",
    "normalize",
    "parse",
    "scan",
    "template",
]
