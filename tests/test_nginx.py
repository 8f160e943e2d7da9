"""The service behind nginx, configured as docs/operating.md says: everything works."""

from __future__ import annotations

import errno
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from nginx import documented, nginx
from support import wait_until

from flowfs import FlowFileSystem
from flowfs.embedded import EmbeddedService
from flowfs.errors import AccessDenied, TooLarge

pytestmark = pytest.mark.tool("nginx", "nginx")


@pytest.fixture(scope="module")
def endpoint(service: EmbeddedService, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("nginx")
    with nginx(documented(), service.endpoint, directory) as address:
        yield address


@pytest.fixture
def fs(endpoint: str, service: EmbeddedService) -> FlowFileSystem:
    return FlowFileSystem(endpoint, service.token, skip_instance_cache=True)


def test_runs_are_started_watched_read_and_deleted(fs: FlowFileSystem, hello_group: str) -> None:
    names = b"".join(b"name %d\n" % number for number in range(20_000))
    fs.pipe(f"groups/{hello_group}/uploads/behind-nginx.txt", names)
    handle = fs.start_run(hello_group, {"names": "behind-nginx.txt", "sleeptime": 0})
    run = f"groups/{hello_group}/runs/{handle['id']}"
    wait_until(lambda: fs.info(run)["state"] == "SUCCESS", 60, "the run to end")
    greetings = fs.cat_file(f"{run}/outputs/results/greetings.txt")
    assert greetings.count(b"\n") == 20_000
    assert fs.info(f"{run}/outputs/results/greetings.txt")["size"] == len(greetings)
    assert (
        fs.cat_file(f"{run}/outputs/results/greetings.txt", 300_000, 300_050)
        == (greetings[300_000:300_050])
    )
    with tarfile.open(fileobj=io.BytesIO(fs.cat_file(f"{run}/archive.tar.gz"))) as archive:
        members = [archive.extractfile(member) for member in archive if member.isfile()]
        assert greetings in [member.read() for member in members if member is not None]
    fs.rm(run, recursive=True)
    assert not fs.exists(run)


def test_an_upload_that_nginx_finds_too_large_is_efbig_and_leaves_nothing(
    service: EmbeddedService, hello_group: str, tmp_path: Path
) -> None:
    small = documented().replace("client_max_body_size 1g;", "client_max_body_size 64k;")
    assert small != documented()
    with nginx(small, service.endpoint, tmp_path) as address:
        fs = FlowFileSystem(address, service.token, skip_instance_cache=True)
        with pytest.raises(TooLarge) as caught:
            fs.pipe(f"groups/{hello_group}/uploads/large-for-nginx.txt", bytes(1 << 20))
    assert caught.value.errno == errno.EFBIG
    fs = FlowFileSystem(service.endpoint, service.token, skip_instance_cache=True)
    assert not fs.glob(f"groups/{hello_group}/uploads/large*")


def test_where_nginx_drops_the_tokens_header_the_error_says_what_to_set(
    service: EmbeddedService, tmp_path: Path
) -> None:
    usual = documented().replace("underscores_in_headers on;", "")
    assert usual != documented()
    with nginx(usual, service.endpoint, tmp_path) as address:
        fs = FlowFileSystem(address, service.token, skip_instance_cache=True)
        with pytest.raises(AccessDenied, match="underscores_in_headers on"):
            fs.ls("groups")
