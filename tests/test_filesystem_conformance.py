"""fsspec's own conformance suites (``fsspec.tests.abstract``) against the real service.

What the suites read is a real run's ``outputs/``: a workflow made for it, in a service of its
own, writes the trees that the suites ask for. What they write goes to a group's ``uploads/``.

======  ==================================================================================
suite   run, and where it departs
======  ==================================================================================
Get     All of it, from ``outputs/``: by its path, and by its URL through ``latest``.
Open    All of it, on an upload.
Pipe    All of it, on an upload.
Put     Into ``uploads/``: to the directory, to a file in it, lists, lists to lists. What
        makes directories is expected to be refused (`_DEPARTED`), since ``uploads/`` is
        flat: the service has no directories. The glob edge cases are run with what they say
        of a flat directory, the others are to be refused.
Copy    As Put, from ``outputs/`` through ``states/SUCCESS`` to ``uploads/``.
======  ==================================================================================

Throughout, the suites' scenarios are there already instead of being made by each test; and
``mkdir`` and ``touch`` of what is there are no errors, as they are none in other places
whose directories cannot be made (`_ThereAlready`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import md5
from pathlib import Path
from typing import Any

import fsspec.tests.abstract as suites
import pytest
from fsspec.tests.abstract.common import GLOB_EDGE_CASES_TESTS
from support import Rest

from flowfs import FlowFileSystem, NotADirectory, NotPermitted
from flowfs.embedded import EmbeddedService

pytestmark = pytest.mark.service

_BULK = ("file1", "file2", "subdir/subfile1", "subdir/subfile2", "subdir/nesteddir/nestedfile")
_EDGE = (
    *("file1", "file2"),
    *(f"subdir{i}/{name}" for i in range(2) for name in ("subfile1", "subfile2")),
    *(f"subdir{i}/nesteddir/nestedfile" for i in range(2)),
)
_HASHED = {f"{md5(str(i).encode()).hexdigest()}.txt": str(i) for i in range(10)}
_OUTPUTS = {
    **{f"bulk/source/{name}": "" for name in _BULK},
    **{f"edge/source/{name}": "" for name in _EDGE},
    **{f"prefix/source/{name}": "" for name in ("subdir.txt", "subdir/subfile.txt")},
    **{f"hashed/source/{name}": text for name, text in _HASHED.items()},
    "src/file": "",
}

_MAKE = """
import json
from pathlib import Path

for name, text in json.loads(Path("outputs.json").read_text()).items():
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text)
"""
_REGISTER = """
import sys
from robflask.service import service

source, password = sys.argv[1], sys.stdin.read()
with service() as api:
    user = api.users().login_user(username="flow", password=password)["id"]
with service(user_id=user) as api:
    workflow = api.workflows().create_workflow(source=source)["id"]
with service(user_id=user) as api:
    print(api.groups().create_group(workflow_id=workflow, name="conformance")["id"])
"""


class _ThereAlready(FlowFileSystem):
    """Directories and files that the suites make first are there: no error, nothing made."""

    def mkdir(self, path: str, create_parents: bool = True, **kwargs: Any) -> None:
        self.makedirs(path, exist_ok=True)

    def touch(self, path: str, truncate: bool = True, **kwargs: Any) -> None:
        if not self.isfile(path):
            super().touch(path, truncate, **kwargs)


@dataclass(frozen=True)
class _Place:
    """A service with the suites' trees as the outputs of a run."""

    service: EmbeddedService
    group: str
    run: str

    @property
    def uploads(self) -> str:
        return f"groups/{self.group}/uploads"

    @property
    def outputs(self) -> str:
        return f"groups/{self.group}/runs/{self.run}/outputs"


def _template(folder: Path) -> Path:
    """Write a workflow whose run has the suites' trees as its results."""
    folder.mkdir()
    manifest = {
        "name": "conformance",
        "specfile": "workflow.json",
        "files": [{"source": "make.py"}, {"source": "outputs.json"}],
    }
    steps = [{"environment": "python", "commands": ['"$$FLOWFS_PYTHON" make.py']}]
    workflow = {
        "inputs": {},
        "workflow": {"type": "serial", "specification": {"steps": steps}},
        "outputs": {"files": list(_OUTPUTS)},
    }
    (folder / "flowserv.json").write_text(json.dumps(manifest))
    (folder / "workflow.json").write_text(json.dumps({"workflow": workflow}))
    (folder / "outputs.json").write_text(json.dumps(_OUTPUTS))
    (folder / "make.py").write_text(_MAKE)
    return folder


def _register(service: EmbeddedService, source: Path) -> str:
    """Add a workflow to a service by its own means, and return the id of a group for it."""
    environment = {
        **os.environ,
        "FLOWSERV_API_DIR": str(service.directory / "api"),
        "FLOWSERV_DATABASE": f"sqlite:///{service.directory / 'service.db'}?timeout=60",
        "FLOWSERV_AUTH_TTL": "86400",
        "GIT_PYTHON_REFRESH": "quiet",
    }
    done = subprocess.run(
        [sys.executable, "-c", _REGISTER, str(source)],
        env=environment,
        input=(service.directory / "password").read_text().strip(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-1]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Place]:
    with EmbeddedService.start() as service:
        group = _register(service, _template(tmp_path_factory.mktemp("conformance") / "workflow"))
        rest = Rest(service)
        handle = rest.ended(rest.start(group, {}))
        rest.close()
        assert handle["state"] == "SUCCESS", handle
        yield _Place(service, group, handle["id"])


@pytest.fixture
def fs(place: _Place) -> FlowFileSystem:
    return _ThereAlready(place.service.endpoint, place.service.token)


class _FromOutputs(suites.AbstractFixtures):
    """The suites' scenarios, as outputs of a run."""

    @pytest.fixture
    def fs(self, place: _Place) -> FlowFileSystem:
        return _ThereAlready(place.service.endpoint, place.service.token)

    @pytest.fixture
    def fs_path(self, place: _Place) -> str:
        return place.outputs

    @pytest.fixture
    def fs_bulk_operations_scenario_0(self, fs_path: str) -> str:
        return f"{fs_path}/bulk/source"

    @pytest.fixture
    def fs_glob_edge_cases_files(self, fs_path: str) -> str:
        return f"{fs_path}/edge/source"

    @pytest.fixture
    def fs_dir_and_file_with_same_name_prefix(self, fs_path: str) -> str:
        return f"{fs_path}/prefix/source"

    @pytest.fixture
    def fs_10_files_with_hashed_names(self, fs_path: str) -> str:
        return f"{fs_path}/hashed/source"


class TestGet(_FromOutputs, suites.AbstractGetTests):
    @pytest.fixture(params=["path", "url through latest"])
    def fs_path(self, request: pytest.FixtureRequest, place: _Place, fs: FlowFileSystem) -> str:
        if request.param == "path":
            return place.outputs
        return fs.unstrip_protocol(f"groups/{place.group}/latest/outputs")


class _OneUpload(_FromOutputs):
    """A target that is one upload, not there before or after."""

    @pytest.fixture
    def fs_target(self, place: _Place, fs: FlowFileSystem) -> Iterator[str]:
        target = f"{place.uploads}/target"
        assert not fs.exists(target)
        yield target
        fs.rm(target)
        assert not fs.exists(target)


# The oldest fsspec supported has neither suite.
class TestOpen(_OneUpload, getattr(suites, "AbstractOpenTests", object)):
    pass


class TestPipe(_OneUpload, getattr(suites, "AbstractPipeTests", object)):
    pass


_FLAT = "uploads/ is flat: the service has no directories"
# Of making a directory, and of a file below what can only be one.
_REFUSED = (NotPermitted, NotADirectory)
# By what stands behind `put` or `copy` in the suite's name for it: what it makes, which the
# service has not.
_DEPARTED = {
    "file_to_new_directory": "newdir/",
    "file_to_file_in_new_directory": "newdir/",
    "directory_to_existing_directory": "subdir/",
    "directory_to_new_directory": "newdir/",
    "glob_to_existing_directory": "nesteddir/, in its recursive half",
    "glob_to_new_directory": "newdir/",
    "list_of_files_to_new_directory": "newdir/",
    "two_files_new_directory": "target/",
    "directory_recursive": "target/",
    "directory_without_files_with_same_name_prefix": "target/",
}
# These want a target that is not there; to all others uploads/ itself is the target.
_MAKES_TARGET = {name for name, made in _DEPARTED.items() if made == "target/"}


class _IntoUploads(_FromOutputs):
    """``uploads/`` as the target; empty before and after each test."""

    @pytest.fixture
    def uploads(self, place: _Place, fs: FlowFileSystem) -> Iterator[str]:
        assert fs.ls(place.uploads) == []
        yield place.uploads
        _empty(fs, place.uploads)

    @pytest.fixture
    def fs_target(self, request: pytest.FixtureRequest, uploads: str) -> str:
        name = _behind_verb(request)
        if name in _DEPARTED:
            reason = f"{_FLAT}, and {_DEPARTED[name]} cannot be made"
            request.applymarker(pytest.mark.xfail(strict=True, raises=_REFUSED, reason=reason))
        return f"{uploads}/target" if name in _MAKES_TARGET else uploads


def _behind_verb(request: pytest.FixtureRequest) -> str:
    name: str = request.node.originalname
    return name.removeprefix("test_").partition("_")[2]


def _empty(fs: FlowFileSystem, directory: str) -> None:
    fs.rm(fs.ls(directory, detail=False, refresh=True))
    assert fs.ls(directory) == []


def _check_edge_case(
    fs: FlowFileSystem, act: Any, uploads: str, names: tuple[str, ...], expected: list[str]
) -> None:
    """Check a glob edge case: what is flat arrives, what is not is refused.

    Parameters
    ----------
    act : callable
        Puts or copies what the case says to the target it is given.
    names : tuple of str
        All files of the scenario.
    expected : list of str
        What the suite says arrives, below the target.
    """
    assert {name.rpartition("/")[2] for name in names} >= {n.rpartition("/")[2] for n in expected}
    flat = not any("/" in name for name in expected)
    for target in (uploads, f"{uploads}/"):
        if flat:
            act(target)
        else:
            with pytest.raises(_REFUSED):
                act(target)
        arrived = sorted(fs.find(uploads))
        there = sorted(f"{uploads}/{name}" for name in expected)
        assert arrived == there if flat else set(arrived) < set(there)
        if arrived:
            _empty(fs, uploads)
    for target in (f"{uploads}/newdir", f"{uploads}/newdir/"):
        if expected:
            with pytest.raises(_REFUSED):
                act(target)
        else:
            act(target)
        assert fs.find(uploads) == []


_edge_cases = pytest.mark.parametrize(
    GLOB_EDGE_CASES_TESTS["argnames"], GLOB_EDGE_CASES_TESTS["argvalues"]
)


class TestPut(_IntoUploads, suites.AbstractPutTests):
    @_edge_cases
    def test_put_glob_edge_cases(  # type: ignore[override]
        self,
        path: str,
        recursive: bool,
        maxdepth: int | None,
        expected: list[str],
        fs: FlowFileSystem,
        uploads: str,
        local_glob_edge_cases_files: str,
    ) -> None:
        source = os.path.join(local_glob_edge_cases_files, path)

        def put(target: str) -> None:
            fs.put(source, target, recursive=recursive, maxdepth=maxdepth)

        _check_edge_case(fs, put, uploads, _EDGE, expected)


class TestCopy(_IntoUploads, suites.AbstractCopyTests):
    @pytest.fixture
    def fs_path(self, place: _Place) -> str:
        return f"groups/{place.group}/states/SUCCESS/{place.run}/outputs"

    @_edge_cases
    def test_copy_glob_edge_cases(  # type: ignore[override]
        self,
        path: str,
        recursive: bool,
        maxdepth: int | None,
        expected: list[str],
        fs: FlowFileSystem,
        uploads: str,
        fs_glob_edge_cases_files: str,
    ) -> None:
        source = f"{fs_glob_edge_cases_files}/{path}"

        def copy(target: str) -> None:
            fs.copy(source, target, recursive=recursive, maxdepth=maxdepth)

        _check_edge_case(fs, copy, uploads, _EDGE, expected)


def test_every_departure_is_from_a_test_of_the_suites() -> None:
    suite = {*dir(suites.AbstractPutTests), *dir(suites.AbstractCopyTests)}
    assert {name.partition("_")[2].partition("_")[2] for name in suite} >= set(_DEPARTED)
