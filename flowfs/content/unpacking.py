"""A run's archive taken apart: its files, all of them as they must be, or nothing."""

from __future__ import annotations

import io
import tarfile
import zlib
from typing import Any

from flowfs.service.body import Body

__all__ = ["MOST", "unpacked"]

#: Bytes in an archive, packed or not: half of what is kept of small files.
MOST = 1 << 24
_HEADER = 1 << 12  # bytes that an archive says of a member beside its header; names are shorter


def unpacked(body: Body, names: list[str], most: int = MOST) -> list[bytes]:
    """Return the bytes of the members of an archive (tar, gzip).

    Nothing is returned before the archive has come to its right end.

    Parameters
    ----------
    body : Body
        The archive.
    names : list of str
        What its members must be called: just these, each once, in this order.
    most : int
        Bytes that it may have, packed and unpacked.

    Raises
    ------
    ValueError
        If it is no such archive, or damaged, or too large, or has anything else in it.
    FlowError
        If it breaks off.
    """
    return _members(_unzipped(body, most), names)


def _unzipped(body: Body, most: int) -> bytearray:
    unzip = zlib.decompressobj(wbits=31)
    plain, came = bytearray(), 0
    try:
        while piece := body.read1(1 << 16):
            came += len(piece)
            if came > most or unzip.eof:
                raise ValueError("the archive is too large, or goes on behind its end")
            while piece:
                plain += unzip.decompress(piece, most + 1 - len(plain))
                if len(plain) > most:
                    raise ValueError(f"the archive is larger than {most} bytes")
                piece = unzip.unconsumed_tail
    except zlib.error as error:
        raise ValueError(f"the archive is damaged: {error}") from None
    if not unzip.eof or unzip.unused_data:  # with its end come checksum and length
        raise ValueError("the archive is not all there, or goes on behind its end")
    return plain


class _Member(tarfile.TarInfo):
    """A member of an archive, of which nothing is looked at but its name and its bytes.

    What else an archive can say takes minutes, or gigabytes, to be understood where it is
    damaged, or made for that: it is refused by its first block.
    """

    # Not `frombuf`, which repaired versions of Python no longer call. All of them call this.
    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        if self.type in (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME):
            if not 0 <= self.size <= _HEADER:
                raise ValueError(f"the archive says {self.size} bytes of one member")
        elif self.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
            raise ValueError(f"the archive has {self.name!r}, which is no file")
        return super()._proc_member(archive)  # type: ignore[misc]


def _members(plain: bytearray, names: list[str]) -> list[bytes]:
    if len(set(names)) < len(names):
        raise ValueError("two files have one name")
    members: list[bytes] = []
    try:
        with tarfile.open(fileobj=io.BytesIO(plain), mode="r:", tarinfo=_Member) as archive:
            # Each is looked at as it comes: what is damaged may go round in circles.
            for member in archive:
                name = names[len(members)] if len(members) < len(names) else None
                file = archive.extractfile(member) if member.isreg() else None
                if member.name != name or file is None or member.issparse():
                    raise ValueError(f"the archive has {member.name!r} in the place of {name!r}")
                members.append(file.read())
                if len(members[-1]) != member.size:
                    raise ValueError(f"the archive breaks off within {name!r}")
    except tarfile.TarError as error:
        raise ValueError(f"the archive is damaged: {error}") from None
    if len(members) < len(names):
        raise ValueError(f"the archive has no {names[len(members)]!r}")
    return members
