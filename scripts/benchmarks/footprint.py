"""The memory that reading a large result takes, in fresh processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.bench import Bench
from benchmarks.case import Case, Comparison, Contender, Goal, Measured

__all__ = ["CASE"]

# Idle is what the process holds once it knows the file and has nothing of it.
_SCRIPT = """
import json, re, sys
from pathlib import Path

way, endpoint, token, path, url = sys.argv[1:]

def held(name):
    return int(re.search(name + r":\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

if way == "requests":
    import requests
    requests.get(endpoint + "/", timeout=60).content
else:
    from flowfs import FlowFileSystem
    fs = FlowFileSystem(endpoint, token)
    fs.info(path)
Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
idle, size = held("VmRSS"), 0
if way == "requests":
    with requests.get(url, stream=True, timeout=60) as reply:
        for piece in reply.iter_content(1 << 20):
            size += len(piece)
elif way == "open":
    with fs.open(path, "rb") as file:
        while piece := file.read(1 << 20):
            size += len(piece)
else:
    class Sink:
        def write(self, data):
            global size
            size += len(data)
    fs.get_file(path, Sink())
print(json.dumps([held("VmHWM") - idle, idle, size]))
"""


def _memory(bench: Bench) -> Iterator[Comparison]:
    size = bench.either(5 << 30, 32 << 20)
    with bench.wire(big=size) as server:
        result = server.big
        where = (server.endpoint, server.token, result.path, result.url)

        def contender(name: str, way: str) -> Contender:
            def act() -> Measured:
                done = subprocess.run(
                    [sys.executable, "-c", _SCRIPT, way, *where],
                    env={**os.environ, "XDG_CACHE_HOME": os.fspath(bench.directory())},
                    capture_output=True,
                    text=True,
                    check=False,
                )
                if done.returncode:
                    raise RuntimeError(done.stderr)
                above, _, got = json.loads(done.stdout)
                if got != size:
                    raise ValueError(f"{got} bytes instead of {size}")
                return Measured(memory=above)

            return Contender(name, act)

        limit = "at most 64 MB above idle"
        yield Comparison(
            "",
            [
                contender("flowfs", "open"),
                contender("flowfs get_file", "get"),
                contender("requests stream", "requests"),
            ],
            [
                Goal(limit, at_most=64e6, quantity="memory"),
                Goal(limit, at_most=64e6, quantity="memory", of="flowfs get_file"),
                Goal("", at_most=64e6, quantity="memory", of="requests stream"),
            ],
            server,
            repeats=bench.either(3, 1),
            warm=False,
            notes={"bytes": size},
        )


CASE = Case(
    "memory",
    "a result of 5 GiB read through in a fresh process",
    "at most 64 MB of memory above idle",
    _memory,
)
