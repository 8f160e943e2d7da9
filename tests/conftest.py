"""Fixtures for all tests: the real service, and a world without the user's settings.

Tests marked ``service`` or ``mount`` are skipped where rob-flask or FUSE is missing, and say
so at the end. With ``FLOWFS_REQUIRE_SERVICE=1`` and ``FLOWFS_REQUIRE_MOUNT=1`` they fail
instead, so that nothing goes untested unnoticed. Tests that use a service's fixture need
no mark.
"""

from __future__ import annotations

import ctypes.util
import itertools
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from itertools import compress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from mounted_group import MountedGroup
from mounting import BINDINGS, mounted
from reader_results import AnalysisResults, Cost
from support import Rest

from flowfs import FlowFileSystem
from flowfs.embedded import EmbeddedService

# The same examples each time, so that what fails fails for everybody; FLOWFS_TEST_RANDOM=1 tries
# others. No example fails because the machine has much else to do.
settings.register_profile(
    "flowfs",
    derandomize=os.environ.get("FLOWFS_TEST_RANDOM") != "1",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("flowfs")

_SERVICE_FIXTURES = {
    "service",
    "own_service",
    "any_service",
    "hello_group",
    "rest",
}
_OLDER = "flowserv-0.7.2"
_numbers = itertools.count()
_NEED = "needs"  # property of a skipped test: what it needs and does not have


@cache
def _missing_service() -> str | None:
    for module in ("robflask", "cheroot"):
        if find_spec(module) is None:
            return f"{module} is not installed (pip install 'flowfs[server]')"
    return None


# Modules that are about what all bindings share, each tried with one of them, by its place in
# BINDINGS; with FLOWFS_TEST_BINDINGS=all each with all. What a binding or its library could do
# in another way (opening, reading, writing, renaming, deleting, ending) is always tried with all.
_ONE_BINDING = {
    "test_mount_uploads": 2,
    "test_mount_attributes": 0,
    "test_mount_status": 1,
    "test_mount_concurrency": 2,
}


@cache
def _missing_mount() -> str | None:
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:
        return f"/dev/fuse cannot be used: {error.strerror}"
    if not (shutil.which("fusermount") or shutil.which("fusermount3")):
        return "there is no fusermount (install the package fuse3)"
    # Each binding needs its own library; one such pair is enough.
    bindings = {"fuse": ("fuse",), "mfusepy": ("fuse3", "fuse")}
    if not any(
        find_spec(binding) and any(ctypes.util.find_library(name) for name in libraries)
        for binding, libraries in bindings.items()
    ):
        return "there is no FUSE library with a Python binding (fusepy or mfusepy) for it"
    return None


def _missing(item: pytest.Item) -> Iterator[tuple[str, str]]:
    """What a test needs and does not have, and why."""
    if item.get_closest_marker("mount") and (reason := _missing_mount()):
        yield "mount", reason
    if item.get_closest_marker("service") and (reason := _missing_service()):
        yield "service", reason
    for mark in item.iter_markers("tool"):
        for program in mark.args[1:]:
            if shutil.which(program) is None:
                yield "mount", f"there is no {program} (scripts/test installs it)"
    parameters = getattr(item, "callspec", None)
    if (
        parameters is not None
        and parameters.params.get("any_service") == _OLDER
        and not os.environ.get("FLOWFS_TEST_PYTHON_072")
    ):
        yield "service", "FLOWFS_TEST_PYTHON_072 names no interpreter with flowserv 0.7.2"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--write-faults", action="store_true", help="write the table of docs/faults.md"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if _SERVICE_FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker("service")
    if os.environ.get("FLOWFS_TEST_BINDINGS") != "all":
        left_out = [_is_tried_with_another_binding(item) for item in items]
        config.hook.pytest_deselected(items=[*compress(items, left_out)])
        items[:] = [item for item, left in zip(items, left_out, strict=True) if not left]


def _is_tried_with_another_binding(item: pytest.Item) -> bool:
    """Tell whether what a test shows does not depend on this binding, and another has its turn."""
    module = item.path.stem
    parameters = getattr(item, "callspec", None)
    if module not in _ONE_BINDING or parameters is None or "binding" not in parameters.params:
        return False
    return bool(parameters.params["binding"] != BINDINGS[_ONE_BINDING[module]])


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    for need, reason in _missing(item):
        if os.environ.get(f"FLOWFS_REQUIRE_{need.upper()}") == "1":
            pytest.fail(f"required, but {reason}", pytrace=False)
        item.user_properties.append((_NEED, f"{need} tests were skipped, because {reason}"))
        pytest.skip(reason)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = Counter(
        what
        for report in terminalreporter.stats.get("skipped", ())
        for name, what in getattr(report, "user_properties", ())
        if name == _NEED
    )
    for what, count in skipped.items():
        terminalreporter.write_line(f"NOT TESTED: {count} {what}", red=True, bold=True)


@pytest.fixture(scope="session", autouse=True)
def _no_cache_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What fixtures for many tests start keeps nothing in the cache of the user."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("xdg-cache")))
        yield


@pytest.fixture(autouse=True)
def _no_settings_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("FLOWSERV_", "ROB_", "FSSPEC_")) or name == "FLOWFS_DEBUG":
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg-config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg-cache"))
    # A proxy would be asked for loopback addresses too.
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")


@pytest.fixture(scope="session")
def service() -> Iterator[EmbeddedService]:
    """The real service on this environment's flowserv (0.8.1), or on that of another.

    ``FLOWFS_TEST_SERVICE_PYTHON`` names an interpreter to start it with, so that all tests of
    the file system can be run against another version.
    """
    python = os.environ.get("FLOWFS_TEST_SERVICE_PYTHON", sys.executable)
    with EmbeddedService.start(python=python) as started:
        yield started


@pytest.fixture(scope="module")
def own_service() -> Iterator[EmbeddedService]:
    """A service of the module's own, in which no other has made groups by the hundred."""
    python = os.environ.get("FLOWFS_TEST_SERVICE_PYTHON", sys.executable)
    with EmbeddedService.start(python=python) as started:
        yield started


@pytest.fixture(scope="session")
def _older_service() -> Iterator[EmbeddedService]:
    with EmbeddedService.start(python=os.environ["FLOWFS_TEST_PYTHON_072"]) as started:
        yield started


@pytest.fixture(scope="session", params=["flowserv-0.8.1", _OLDER])
def any_service(request: pytest.FixtureRequest) -> EmbeddedService:
    """The real service on every version of flowserv that it works with."""
    name = "_older_service" if request.param == _OLDER else "service"
    started: EmbeddedService = request.getfixturevalue(name)
    return started


@pytest.fixture(scope="session")
def hello_group(service: EmbeddedService) -> str:
    """Id of the group of the workflow ``hello``."""
    return service.groups["hello"]


@pytest.fixture
def rest(service: EmbeddedService) -> Iterator[Rest]:
    """The service's REST interface, without flowfs."""
    client = Rest(service)
    yield client
    client.close()


@pytest.fixture(scope="session")
def results(service: EmbeddedService) -> AnalysisResults:
    """Three runs of the workflow `analysis` in a group of their own."""
    return AnalysisResults(service)


@pytest.fixture
def fs(results: AnalysisResults) -> FlowFileSystem:
    """A file system of the service that has them."""
    return FlowFileSystem(results.endpoint, **results.options)


@pytest.fixture
def uploads(results: AnalysisResults, fs: FlowFileSystem) -> Iterator[str]:
    """The uploads of that group, put back to what they were."""
    directory = f"{results.group}/uploads"
    before = set(fs.ls(directory, detail=False, refresh=True))
    yield directory
    after = set(fs.ls(directory, detail=False, refresh=True))
    fs.rm(sorted(after - before))


@pytest.fixture
def fresh(results: AnalysisResults) -> dict[str, Any]:
    """Storage options with which nothing is known yet: what is known is kept by options."""
    return {**results.options, "ttl": 1000 + next(_numbers)}


@pytest.fixture
def cost(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Cost:
    """Counts requests and bytes from now on."""
    return Cost(caplog, monkeypatch)


@pytest.fixture(scope="module", params=BINDINGS, ids="-".join)
def binding(request: pytest.FixtureRequest) -> dict[str, str]:
    """A FUSE binding and the library it is to load, as options of ``mounted``."""
    pytest.importorskip("fuse" if request.param[0] == "fusepy" else "mfusepy")
    return {"fuse": request.param[0], "library": request.param[1]}


@pytest.fixture(scope="module")
def mount(
    service: EmbeddedService, binding: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, Path]]:
    """A mount that tests of a module share, and its log, which has each request."""
    log = tmp_path_factory.mktemp("mount") / "log"
    extra = {"FLOWFS_DEBUG": "1"}
    with mounted(service, ttl=0.05, log=log, extra=extra, **binding) as directory:
        yield directory, log
    said = log.read_text()
    assert "Traceback" not in said, said


@pytest.fixture
def group(service: EmbeddedService, rest: Rest, mount: tuple[Path, Path]) -> MountedGroup:
    """A group of the test's own on that mount."""
    return MountedGroup(service, rest, *mount)
