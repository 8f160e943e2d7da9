"""What stays on disk for later processes, and is shared by those of the same time."""

from flowfs.disk.archives import CachedArchive, Draft
from flowfs.disk.directory import claim, default_place
from flowfs.disk.disk import Disk
from flowfs.disk.files import CachedFile
from flowfs.disk.pieces import put

__all__ = ["CachedArchive", "CachedFile", "Disk", "Draft", "claim", "default_place", "put"]
