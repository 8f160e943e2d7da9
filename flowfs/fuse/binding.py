"""The FUSE library and its Python binding: chosen, loaded, and driven in one way.

fusepy (libfuse 2) and its maintained fork mfusepy (libfuse 2 and 3) differ in how they
reach the operations and in the options they take; only this module knows.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import itertools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from flowfs.errors import FlowError, InvalidArguments, failure
from flowfs.fuse.listings import Snapshots
from flowfs.fuse.structs import Stat, entries
from flowfs.fuse.threads import Kept

__all__ = ["BACKGROUND", "BINDINGS", "Binding", "load"]

#: Name of a binding to its module. The one that is still looked after comes first.
BINDINGS: Mapping[str, str] = {"mfusepy": "mfusepy", "fusepy": "fuse"}

_LIBRARIES = {
    "mfusepy": "libfuse 3 (Debian and Ubuntu: apt install fuse3 libfuse3-3)",
    "fusepy": "libfuse 2 (Debian and Ubuntu: apt install fuse3 libfuse2, or libfuse2t64)",
}
_EXTRAS = {"mfusepy": "pip install 'flowfs[fuse3]'", "fusepy": "pip install 'flowfs[fuse]'"}


#: Requests that the kernel makes of its own accord, such as reading ahead; by default 12. All
#: beyond that wait, whatever file they are about.
BACKGROUND = 1024
_THREADS = 1000  # each waits for the service on a request of its own
_IDLE_THREADS = 10
# Names of a directory of which libfuse keeps no more than the kernel has asked for, and how many
# of them are made at once.
_LARGE = 1000
_PART = 256
_ATTRIBUTES = b"user."  # what extended attributes begin with that there can be
_MINOR_WITH_BOUND = 12  # of libfuse 3, from which on it bounds its threads


@dataclass(frozen=True)
class Binding:
    """A loaded binding.

    Attributes
    ----------
    name : str
        ``"fusepy"`` or ``"mfusepy"``.
    module : module
        What was imported.
    libfuse : int
        Major version of the library: 2 or 3.
    """

    name: str
    module: Any
    libfuse: int

    def caller(self) -> int:
        """Return the thread id of who asked for the operation at hand; 0 if not known."""
        try:
            return int(self.module.fuse_get_context()[2])
        except ValueError:  # later ones of libfuse 3 know of nothing in threads of ours
            return 0

    def versions(self) -> dict[str, str]:
        """Return the versions of the binding and its library, by name."""
        told = {}
        with contextlib.suppress(PackageNotFoundError):
            told[self.name] = version(self.name)
        number = int(self.module._libfuse.fuse_version())  # 29, 35, 312: the first digit is major
        told["libfuse"] = f"{str(number)[0]}.{str(number)[1:]}"
        return told

    def leaver(self) -> Callable[[], None]:
        """Return what has the loop of the mount at hand end; to be asked for in an operation.

        What is returned may be called once, by any thread. It sets a flag, which libfuse sees
        when the main thread next wakes up.
        """
        library = self.module._libfuse
        mount = ctypes.c_void_p(library.fuse_get_context().contents.fuse)
        return lambda: library.fuse_exit(mount)

    def serve(self, operations: Any, directory: str, options: Mapping[str, str | bool]) -> None:
        """Mount, and serve until the mount ends.

        Parameters
        ----------
        operations : object
            Methods named after FUSE's operations.
        directory : str
            Where to mount.
        options : mapping of str to str or True
            As for ``-o``.

        Raises
        ------
        FlowError
            If the library refuses; it says why on stderr, and only there.
        """
        own = {**self._for_many(), **options}
        if self.libfuse == 2:
            own.setdefault("big_writes", True)  # 4 KiB a write otherwise; always on in 3
        # The operations log what goes wrong in them. All that fusepy has to add are tracebacks
        # of names that are no UTF-8.
        logging.getLogger("fuse").setLevel(logging.CRITICAL)
        served = operations if self.name == "mfusepy" else _Called(operations)
        try:
            mount = _fuse_of(self, operations)
            mount(served, directory, raw_fi=True, foreground=True, **own)
        except RuntimeError as error:
            raise failure(
                FlowError,
                f"libfuse {self.libfuse} cannot mount there (code {error})",
                directory,
            ) from None
        except UnicodeEncodeError:
            message = f"{self.name} takes no directory whose name is no UTF-8"
            raise failure(InvalidArguments, message, ascii(directory)) from None

    def _for_many(self) -> dict[str, str]:
        """Return the options by which those who wait for the service hold up nobody else."""
        if self.libfuse == 2:
            return {"max_background": str(BACKGROUND)}
        # libfuse 2 and the first ones of 3 begin a thread whenever none is free. Later ones
        # have 10 at most; and where it is not said how many may be idle, they complain.
        if int(self.module.fuse_version_minor) >= _MINOR_WITH_BOUND:
            return {"max_threads": str(_THREADS), "max_idle_threads": str(_IDLE_THREADS)}
        return {}


def _fuse_of(binding: Binding, operations: Any) -> Any:
    """Return a binding's class that mounts, with what happens most done in few steps.

    Attributes and listings go from the operations into libfuse's own structs, past the dicts
    that the bindings take them in, and without giving up the interpreter for each name. What
    is read goes from the file that it is kept in into libfuse's own memory.
    """
    module: Any = binding.module
    name_of, stat_of = _name, Stat(module.c_stat)
    entries_of, entry_size = entries(module.c_stat), ctypes.sizeof(module.c_stat)
    threads, snapshots = Kept(), Snapshots()
    look, list_names = operations.getattr, operations.readdir
    read, read_into = operations.read, operations.read_into
    more: tuple[int, ...] = () if binding.libfuse == 2 else (0,)
    # As the binding has it, but for the interpreter: libfuse only takes notes here.
    filler_of = ctypes.PYFUNCTYPE(
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_char_p,
        ctypes.c_void_p,
        module.c_off_t,
        *[ctypes.c_int for _ in more],
    )
    wrapped = module.FUSE._wrapper

    class Lean(module.FUSE):  # type: ignore[misc]
        def _wrapper(self, function: Any, *args: Any) -> Any:
            threads.keep()
            # fusepy has it static.
            return wrapped(function, *args) if static else wrapped(self, function, *args)

        def fgetattr(self, path: bytes | None, buffer: Any, info: Any) -> int:
            stat_of.write(buffer, look(name_of(path), info.contents if info else None))
            return 0

        def read(self, path: bytes | None, buffer: Any, size: int, offset: int, info: Any) -> int:
            opened = info.contents
            place = (ctypes.c_char * size).from_address(ctypes.addressof(buffer.contents))
            got: int | None = read_into(memoryview(place), offset, opened.fh)
            if got is None:
                data = read(None, size, offset, opened)
                got = len(data)
                ctypes.memmove(buffer, data, got)
            return got

        def getxattr(self, path: bytes, name: bytes, *rest: Any) -> int:
            # ls -l asks each file for three that nothing here has; told that there are none of
            # the kind, it asks no more.
            if not name.startswith(_ATTRIBUTES):
                return -errno.EOPNOTSUPP
            return int(super().getxattr(path, name, *rest))

        def _list(
            self, path: bytes | None, buffer: int, filler: Any, offset: int, *rest: Any
        ) -> int:
            listing = snapshots.get(buffer, path) if offset else None
            kept = listing is not None
            if listing is None:
                listing = list_names(name_of(path), 0)
            fill = ctypes.cast(filler, filler_of)
            large = offset > 0 or len(listing) > _LARGE
            if large and not kept:
                # libfuse takes as much of it as the kernel wants at once. What it is told to
                # keep it goes through from the beginning each time.
                snapshots.begin(buffer, path, listing)
            count = len(listing)
            for at in range(offset, count, _PART):
                names, types, numbers = listing.columns(at, at + _PART)
                # Whatever is done for each name is done without a step of Python's own.
                texts = "\0".join(names).encode("utf-8", "surrogateescape").split(b"\0")
                stats = entries_of(numbers, types)
                first = ctypes.cast(ctypes.c_char_p(stats), ctypes.c_void_p).value or 0
                if any(
                    map(
                        fill,
                        itertools.repeat(buffer),
                        texts,
                        range(first, first + len(stats), entry_size),
                        range(at + 1, count + 1) if large else itertools.repeat(0),
                        *map(itertools.repeat, more),
                    )
                ):
                    return 0 if large else -errno.ENOMEM
            if offset >= count:
                snapshots.end(buffer)
            return 0

    static = isinstance(vars(module.FUSE)["_wrapper"], staticmethod)
    listing = {"fusepy": "readdir", "mfusepy": f"readdir_fuse_{binding.libfuse}"}[binding.name]
    setattr(Lean, listing, Lean._list)
    if not hasattr(module.FUSE, "rename_fuse_3"):
        return Lean

    class Whole(Lean):
        """With all that libfuse 3 says passed on.

        mfusepy drops the flags of rename: one that is to replace nothing would replace, and
        one that is to exchange two files would lose one. libfuse 2 knows no flags, and the
        kernel refuses them. It also drops by which descriptor a file is cut off, and one that
        has been removed is known by nothing else; with libfuse 2 that is an operation of its
        own.
        """

        def rename_fuse_3(self, old: bytes, new: bytes, flags: int) -> int:
            paths = (name.decode(self.encoding, self.errors) for name in (old, new))
            self.operations.rename(*paths, flags)
            return 0

        def truncate_fuse_3(self, path: bytes | None, length: int, info: Any) -> int:
            name = None if path is None else path.decode(self.encoding, self.errors)
            self.operations.truncate(name, length, info.contents if info else None)
            return 0

    return Whole


def _name(path: bytes | None) -> str | None:
    return None if path is None else path.decode("utf-8", "surrogateescape")


class _Called:
    """Operations as fusepy wants them: called with the operation's name.

    mfusepy warns of operations that can be called, so they are not so by themselves.
    """

    def __init__(self, operations: Any) -> None:
        self._operations = operations

    def __getattr__(self, name: str) -> Any:
        return getattr(self._operations, name)

    def __call__(self, name: str, *args: Any) -> Any:
        return getattr(self._operations, name)(*args)


def load(which: str = "auto") -> Binding:
    """Load a binding and its library.

    Parameters
    ----------
    which : {"auto", "fusepy", "mfusepy"}
        Which; ``auto`` takes mfusepy where it works, else fusepy.

    Returns
    -------
    Binding

    Raises
    ------
    FlowError
        If it, or its library, is not installed; says what to install (errno ENOPKG).
    InvalidArguments
        If there is no binding of that name.
    """
    if which == "auto":
        missing = []
        for name in BINDINGS:
            try:
                return _load(name)
            except FlowError as error:
                missing.append(error)
        # Where one is installed and lacks its library, that is what to say.
        raise next((error for error in missing if error.__cause__ is None), missing[-1])
    if which not in BINDINGS:
        raise failure(InvalidArguments, f"no FUSE binding {which!r}: auto, {', '.join(BINDINGS)}")
    return _load(which)


def _load(name: str) -> Binding:
    try:
        module: Any = import_module(BINDINGS[name])
    except ImportError as error:
        raise failure(
            FlowError,
            f"no FUSE binding for Python ({name} is not installed): {_EXTRAS[name]}, "
            f"and {_LIBRARIES[name]}",
            errno=errno.ENOPKG,
        ) from error
    except (OSError, AttributeError) as error:
        raise failure(
            FlowError,
            f"{name} is installed, but finds no FUSE library ({error}): install {_LIBRARIES[name]}",
            errno=errno.ENOPKG,
        ) from None
    if not hasattr(module, "FUSE") or not hasattr(module, "fuse_get_context"):
        raise failure(
            FlowError,
            f"the module {BINDINGS[name]!r} is not {name} but another package: {_EXTRAS[name]}",
            errno=errno.ENOPKG,
        )
    return Binding(name, module, int(getattr(module, "fuse_version_major", 2)))
