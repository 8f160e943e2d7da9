"""Uploads of a group: the input files of its runs."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from typing import IO, Any

from urllib3.fields import RequestField

from flowfs.errors import BadReply, InvalidArguments, failure
from flowfs.service.body import Body
from flowfs.service.descriptor import ServiceDescriptor
from flowfs.service.faults import unclear
from flowfs.service.json_shapes import object_of, objects_in
from flowfs.service.session import Session

__all__ = ["UploadService"]

_CHUNK = 1 << 20  # bytes
_PART = 1 << 16  # bytes


class UploadService:
    """List, read, upload and delete a group's files. Every call costs one request.

    Parameters
    ----------
    descriptor : ServiceDescriptor
        Routes.
    session : Session
        Connections and token.
    """

    def __init__(self, descriptor: ServiceDescriptor, session: Session) -> None:
        self._urls = descriptor.urls
        self._session = session

    def list_files(self, group_id: str) -> list[dict[str, Any]]:
        """List the uploads: ``{"id", "name", "createdAt", …}`` each, in the service's order.

        The service's ``size`` is always 0 and means nothing.

        Raises
        ------
        NotFound, AccessDenied, FlowError
            As the service says; never a part of the list.
        """
        what, path = f"list the uploads of group {group_id!r}", f"groups/{group_id}/uploads"
        url = self._urls("files:list", userGroupId=group_id)
        reply = self._session.json("GET", url, what=what, path=path)
        return objects_in(reply, "files", what, path, "id", "name")

    def get_file(self, group_id: str, file_id: str, *, range: str | None = None) -> Body:
        """Open an upload; close it.

        Parameters
        ----------
        group_id, file_id : str
            The upload.
        range : str, optional
            Value of a Range header; the service may ignore it.

        Raises
        ------
        NotFound, FlowError
            As the service says.
        """
        return self._session.stream(
            self._urls("files:download", userGroupId=group_id, fileId=file_id),
            what=f"get upload {file_id!r} of group {group_id!r}",
            path=f"groups/{group_id}/uploads/{file_id}",
            headers={"Range": range} if range else None,
        )

    def upload_file(
        self,
        group_id: str,
        file: IO[bytes],
        name: str,
        *,
        progress: Callable[[int], None] | None = None,
    ) -> dict[str, Any]:
        """Upload a file from where it stands to its end, without reading it into memory.

        Parameters
        ----------
        group_id : str
            The group.
        file : binary file
            Read in pieces of 1 MiB. Must be able to seek, since its length is sent first.
        name : str
            The name asked for. The service may store another one: the reply tells.
        progress : callable, optional
            Called with the number of bytes of each piece sent; where all is sent once more,
            with those sent before as a negative number.

        Returns
        -------
        dict
            The upload: ``id`` and the stored ``name``.

        Raises
        ------
        InvalidArguments
            If the service refuses the name.
        TooLarge
            If the file is over the service's limit.
        NotFound, AccessDenied, FlowError
            As the service says.
        """
        what = f"upload {name!r} to group {group_id!r}"
        path = f"groups/{group_id}/uploads/{name}"
        try:
            form = _Form(file, name, progress)
        except UnicodeEncodeError:
            raise failure(
                InvalidArguments, f"cannot {what}: the name is no UTF-8", ascii(path)
            ) from None
        reply = self._session.upload(
            self._urls("files:upload", userGroupId=group_id),
            form,  # its length is known, so that it is not sent chunked
            headers={"Content-Type": form.content_type},
            what=what,
            path=path,
        )
        try:
            return object_of(reply, what, path, "id", "name")
        except BadReply as error:  # it said yes, but not to what
            raise unclear(error) from None

    def delete_file(self, group_id: str, file_id: str) -> None:
        """Delete an upload.

        Raises
        ------
        NotFound, AccessDenied, FlowError
            As the service says.
        """
        self._session.json(
            "DELETE",
            self._urls("files:delete", userGroupId=group_id, fileId=file_id),
            what=f"delete upload {file_id!r} of group {group_id!r}",
            path=f"groups/{group_id}/uploads/{file_id}",
        )


class _Form:
    """A multipart form of one file, made while it is sent.

    requests would read the file into memory to build it. urllib3 writes the field's headers,
    so that names are quoted as everywhere; what is here is the order of three things.
    """

    # flowServ's own client calls the field `files`; rob-flask takes only `file`.
    _FIELD = "file"

    def __init__(self, file: IO[bytes], name: str, progress: Callable[[int], None] | None) -> None:
        boundary = secrets.token_hex(16)
        field = RequestField(name=self._FIELD, data=b"", filename=name)
        field.make_multipart(content_type="application/octet-stream")
        self.content_type = f"multipart/form-data; boundary={boundary}"
        self._head = f"--{boundary}\r\n{field.render_headers()}".encode()
        self._tail = f"\r\n--{boundary}--\r\n".encode()
        self._file = file
        self._name = name
        self._progress = progress
        self.error: Exception | None = None  # why the file could not be read
        # Told when sending begins (False), and when all of it has been sent (True).
        self.sending: Callable[[bool], None] | None = None
        self._start = file.tell()
        self._size = file.seek(0, os.SEEK_END) - self._start
        file.seek(self._start)
        self._begun = False
        self._sent = 0  # bytes of the file, of which `progress` was told

    def __len__(self) -> int:
        return len(self._head) + self._size + len(self._tail)

    def __iter__(self) -> Iterator[bytes]:
        if self._begun:  # it was refused, and is sent once more
            self._file.seek(self._start)
            if self._progress is not None and self._sent:
                self._progress(-self._sent)
        self._begun, self._sent = True, 0
        if self.sending is not None:
            self.sending(False)
        yield self._head
        left = self._size
        while left:
            piece = self._next(left)
            # In small parts: the time allowed for sending is for each of them.
            for at in range(0, len(piece), _PART):
                yield piece[at : at + _PART]
            left -= len(piece)
            self._sent += len(piece)
            if self._progress is not None:
                self._progress(len(piece))
        yield self._tail
        if self.sending is not None:
            self.sending(True)

    def _next(self, left: int) -> bytes:
        """Read the next piece. On an error the service sees no whole form, and stores nothing."""
        try:
            piece = self._file.read(min(_CHUNK, left))
            if not piece:
                raise failure(BadReply, "the file became shorter while it was read", self._name)
        except Exception as error:
            # urllib3 would take an OSError for one of the connection.
            self.error = error
            raise _Unreadable from error
        return piece


class _Unreadable(Exception):
    """The file to be uploaded cannot be read."""
