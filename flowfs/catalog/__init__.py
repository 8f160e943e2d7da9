"""What is known of the service's things: records, and how long each is good."""

from flowfs.catalog.cache import Cache
from flowfs.catalog.catalog import Catalog
from flowfs.catalog.listing import Listing, Row, plain
from flowfs.catalog.records import (
    FileRecord,
    Named,
    RunRecord,
    run_files,
    timestamp,
)

__all__ = [
    "Cache",
    "Catalog",
    "FileRecord",
    "Listing",
    "Named",
    "Row",
    "RunRecord",
    "plain",
    "run_files",
    "timestamp",
]
