"""Bytes of the service's files: streams, ranges, and what is kept of them."""

from flowfs.content.content import Content
from flowfs.content.packs import FEWEST, Pack
from flowfs.content.reader import Reader
from flowfs.content.room import Room, check_hole, no_room
from flowfs.content.shared_reader import SharedReader
from flowfs.content.sharing import SharedFile
from flowfs.content.source import Source

__all__ = [
    "FEWEST",
    "Content",
    "Pack",
    "Reader",
    "Room",
    "SharedFile",
    "SharedReader",
    "Source",
    "check_hole",
    "no_room",
]
