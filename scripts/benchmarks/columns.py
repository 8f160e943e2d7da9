"""One column of a large parquet file, by way of pyarrow."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench
from benchmarks.case import Case, Comparison, Contender, Goal
from benchmarks.streams import http_filesystem

__all__ = ["CASE"]

_COLUMNS = 16
_NAME = "column-5"


def _parquet(bench: Bench) -> Iterator[Comparison]:
    try:
        import numpy
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        yield Comparison("", [Contender("flowfs", missing=str(error))])
        return

    path = bench.directory() / "table.parquet"
    column, total = _write(path, bench.either(64, 2), numpy, pyarrow)
    expected = pyarrow.parquet.read_table(path, columns=[_NAME])
    with bench.wire(paths=[path]) as server:
        (result,) = server.files

        def by(name: str, filesystem: Any, where: str) -> Contender:
            def act() -> Any:
                with filesystem.open(where, "rb") as file:
                    return pyarrow.parquet.read_table(file, columns=[_NAME])

            def check(table: Any) -> None:
                if not table.equals(expected):
                    raise ValueError("not the column that was asked for")

            return Contender(name, act, check)

        contenders = [by("flowfs", bench.filesystem(server), result.path)]
        try:
            contenders.append(by("HTTPFileSystem", http_filesystem(), result.url))
        except ImportError as error:
            contenders.append(Contender("HTTPFileSystem", missing=str(error)))
        yield Comparison(
            "",
            contenders,
            [
                Goal(
                    "at most 1.5 times the column's bytes",
                    against=float(column),
                    at_most=1.5,
                    quantity="bytes",
                ),
                Goal(
                    "at most 1.5 times the column's bytes",
                    against=float(column),
                    at_most=1.5,
                    quantity="bytes",
                    of="HTTPFileSystem",
                ),
            ],
            server,
            notes={"column": column, "file": total},
        )


def _write(path: Path, groups: int, numpy: Any, pyarrow: Any) -> tuple[int, int]:
    """Write a table of 16 MiB for each group of rows; return a column's bytes and the file's."""
    numbers = numpy.random.default_rng(1)
    rows = (16 << 20) // 8 // _COLUMNS
    names = [f"column-{number}" for number in range(_COLUMNS)]
    schema = pyarrow.schema([(name, pyarrow.float64()) for name in names])
    with pyarrow.parquet.ParquetWriter(
        path, schema, compression="snappy", use_dictionary=False
    ) as writer:
        for _ in range(groups):
            values = [pyarrow.array(numbers.random(rows)) for _ in names]
            writer.write_table(pyarrow.table(values, schema=schema))
    told = pyarrow.parquet.ParquetFile(path).metadata
    place = names.index(_NAME)
    column = sum(
        told.row_group(number).column(place).total_compressed_size
        for number in range(told.num_row_groups)
    )
    return column, os.path.getsize(path)


CASE = Case(
    "parquet",
    "one of 16 columns of a parquet file of 1 GiB",
    "at most 1.5 times that column's bytes",
    _parquet,
)
