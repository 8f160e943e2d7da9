"""What random sequences are made of: names, flags, bytes, operations and documents."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from reference import GREETING, STATES

STEPS = int(os.environ.get("FLOWFS_MODEL_STEPS", "30"))
TTL = 0.5  # seconds for which the mount believes a listing; one's own changes are seen at once
MARKS_LAST = 10.0  # seconds after the last unlink; then what was unlinked of a run is back
MAX_RUNS = 4  # in one sequence: each is a process
LONG = 600  # seconds
SLEEPTIMES = (0, LONG)  # of the runs that are there

#: Names that the service stores as they are.
NAMES = ("a", "b.txt", "data.csv")
#: Names that the service stores as others. What was asked for goes on being found under the name
#: asked for, by this client; once it is sent, only the stored name is listed.
STORED_AS = {".hidden": "hidden", "sp ace.txt": "sp_ace.txt", "backup~": "backup"}
#: What is already there, and what arguments name: no sequence changes it.
GIVEN = "names.txt"

names = st.one_of(st.sampled_from(NAMES), st.sampled_from(NAMES + tuple(STORED_AS)))
sizes = st.sampled_from((0, 1, 3, 17, 4095, 4096, 5000, 140_000))
offsets = st.sampled_from((0, 1, 2, 5, 17, 4095, 4096, 10_000, 131_072))
pieces = st.builds(
    lambda first, size: bytes((first + n) % 251 for n in range(size)), st.integers(1, 9), sizes
)
_NEW = os.O_RDWR | os.O_CREAT
flags = st.one_of(
    st.sampled_from(
        (
            _NEW,
            _NEW | os.O_TRUNC,
            _NEW | os.O_APPEND,
            os.O_RDONLY,
            os.O_RDWR,
            os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
            os.O_WRONLY | os.O_CREAT | os.O_APPEND,
        )
    ),
    st.builds(
        lambda mode, more: mode | sum(more),
        st.sampled_from((os.O_RDONLY, os.O_WRONLY, os.O_RDWR)),
        st.sets(st.sampled_from((os.O_CREAT, os.O_EXCL, os.O_TRUNC, os.O_APPEND))),
    ),
)


def _operations(*options: tuple[Any, ...]) -> st.SearchStrategy[tuple[Any, ...]]:
    """Return operations, each with one of the arguments that it may have."""
    return st.one_of(
        *(
            st.tuples(
                st.just(name),
                *(a if isinstance(a, st.SearchStrategy) else st.just(a) for a in arguments),
            )
            for name, *arguments in options
        )
    )


on_descriptors = _operations(
    ("read", sizes),
    ("pread", sizes, offsets),
    ("write", pieces),
    ("write", pieces),
    ("pwrite", pieces, offsets),
    ("pwrite", pieces, offsets),
    (
        "lseek",
        st.one_of(offsets, st.just(-1)),
        st.sampled_from((os.SEEK_SET, os.SEEK_CUR, os.SEEK_END)),
    ),
    ("ftruncate", offsets),
    ("fsync",),
    ("fstat",),
)
on_names = _operations(
    ("get",),
    ("get",),
    ("stat",),
    ("access", st.sampled_from((os.F_OK, os.R_OK, os.W_OK, os.X_OK))),
    ("chmod", 0o600),
    ("utime",),
    ("rmdir",),
    ("truncate", offsets),
    ("unlink",),
    ("rename", names),
    ("rename", names),
)

PLACES = (
    "",
    "group.json",
    "arguments.template.json",
    "runs.jsonl",
    "nothing",
    "group.json/nothing",
    "latest",
    "latest/handle.json",
    "runs",
    "runs/new",
    "runs/new.error",
    "runs/nothing",
    "runs/nothing/handle.json",
    "runs/{run}",
    "runs/{run}/handle.json",
    "runs/{run}/arguments.json",
    "runs/{run}/archive.tar.gz",
    "runs/{run}/cancel",
    "runs/{run}/nothing",
    "runs/{run}/results",
    "runs/{run}/results/{result}",
    "runs/{run}/results/nothing",
    "runs/{run}/outputs",
    "runs/{run}/outputs/results",
    "runs/{run}/outputs/results/greetings.txt",
    "runs/{run}/outputs/results/nothing",
    "states",
    "states/{state}",
    "states/{state}/{run}",
    "states/NONE",
    "uploads",
)
FILES_OF_A_RUN = (
    "handle.json",
    "arguments.json",
    "archive.tar.gz",
    "results/{result}",
    f"outputs/{GREETING}",
)


@dataclass(frozen=True)
class Place:
    """A path whose run is told by a number: ids differ each time."""

    pattern: str
    run: int = 0
    state: str = "SUCCESS"


places = st.builds(Place, st.sampled_from(PLACES), st.integers(0, 3), st.sampled_from(STATES))
runs = st.integers(0, 3)


reasons = st.sampled_from((b"enough", b" ", b"\n", b"too long\n", b"two\nlines\n"))
looks = st.sampled_from(("stat", "listdir", "readlink", "get", "get", "getxattr"))


def _document(form: int, arguments: dict[str, Any], indent: int | None) -> bytes:
    listed = [{"name": name, "value": value} for name, value in arguments.items()]
    document: Any = (arguments, listed, {"arguments": listed})[form]
    return json.dumps(document, ensure_ascii=False, indent=indent).encode()


good_documents = st.builds(
    _document,
    st.integers(0, 2),
    st.fixed_dictionaries(
        {"names": st.just(GIVEN), "sleeptime": st.sampled_from((0, LONG))},
        optional={"greeting": st.sampled_from(("Hi", "Grüß Gott"))},
    ),
    st.sampled_from((None, 1)),
)
bad_documents = st.sampled_from(
    (
        b"{}",
        b"names.txt",
        b'{"names": "names.txt", "nope": 1}',
        b'{"names": "names.txt", "sleeptime": "soon"}',
        b'{"names": "names.txt"} {"names": "names.txt"}',
        b'{"names": ',
        b'[{"name": "nam',
    )
)
documents = st.builds(
    lambda lead, document, tail: lead + document + tail,
    st.sampled_from((b"", b"\n ")),
    st.one_of(good_documents, good_documents, bad_documents),
    st.sampled_from((b"", b"\n", b"\n\n", b"\nmore")),
)


def is_good(document: Any) -> bool:
    """Tell whether the service takes these arguments."""
    arguments = arguments_of(document)
    return (
        arguments.get("names") == GIVEN
        and isinstance(arguments.get("sleeptime", 0), int)
        and set(arguments) <= {"names", "sleeptime", "greeting"}
    )


def arguments_of(document: Any) -> dict[str, Any]:
    """Return a document's arguments by name, whichever form they have."""
    if isinstance(document, dict) and isinstance(document.get("arguments"), list):
        document = document["arguments"]
    if isinstance(document, list):
        return {one["name"]: one["value"] for one in document}
    return dict(document)


def listed(names: list[str]) -> list[str]:
    """Return names as a listing has them once all are sent."""
    return sorted(STORED_AS.get(name, name) for name in names)
