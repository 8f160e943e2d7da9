"""Mounting as an ordinary user, by fusermount, where the tests are run by root."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from mounting import command_environment, flowfs, is_mounted, mounted_in_background, mountpoint
from ordinary import Ordinary, ordinary_user

from flowfs.embedded import EmbeddedService

pytestmark = [pytest.mark.mount, pytest.mark.service]


@pytest.fixture(scope="module")
def found() -> Iterator[Ordinary | str]:
    yield from ordinary_user()


@pytest.fixture
def user(found: Ordinary | str, request: pytest.FixtureRequest) -> Ordinary:
    if isinstance(found, str):
        said = f"mount tests as an ordinary user were skipped, because {found}"
        request.node.user_properties.append(("needs", said))
        pytest.skip(found)
    return found


@pytest.mark.parametrize("library", ["fuse", "fuse3"])
def test_an_ordinary_user_mounts_works_and_unmounts(
    service: EmbeddedService, user: Ordinary, library: str
) -> None:
    group = service.groups["hello"]
    script = f"""
        mkdir mnt && trap 'flowfs umount --lazy mnt; rmdir mnt' EXIT
        flowfs mount mnt || exit
        stat -c '%U %a' mnt mnt/groups/{group}/runs/new
        upload=mnt/groups/{group}/uploads/{library}.txt
        echo text > $upload && cat $upload
        until flowfs mount --list | grep "$PWD/mnt" | grep -o serving; do sleep 0.1; done
        pid=$(flowfs mount --list --json | grep -A 2 "$PWD/mnt" | grep -o '"pid": [0-9]*')
        (cd mnt && flowfs umount "$OLDPWD/mnt")
        flowfs umount mnt && trap 'rmdir mnt' EXIT && echo ended
        test -n "$pid" && ! test -e /proc/${{pid#*: }}/exe && echo gone
        ls flowfs
    """
    environment = command_environment(service, FUSE_LIBRARY_NAME=library)
    done = user.run(script, environment)
    said = done.stdout.splitlines()
    assert said[0].startswith("mounted flow+http://"), done.stderr
    assert said[1:] == ["nobody 555", "nobody 644", "text", "serving", "ended", "gone"]
    (refused,) = done.stderr.splitlines()
    assert "is in use by" in refused


def test_nobody_but_root_looks_into_a_mounts_process_and_its_user_ends_what_hangs_on_it(
    service: EmbeddedService, user: Ordinary
) -> None:
    script = """
        mkdir mnt && trap 'flowfs umount --lazy mnt; rmdir mnt' EXIT
        pid=$(flowfs mount --json mnt | sed 's/.*"pid": \\([0-9]*\\).*/\\1/')
        grep -c Pid: /proc/$pid/status
        cat /proc/$pid/environ /proc/$pid/maps /proc/$pid/mem
        until flowfs mount --list | grep "$PWD/mnt" | grep -o serving; do sleep 0.1; done
        flowfs umount mnt && trap 'rmdir mnt' EXIT && echo ended
    """
    done = user.run(script, command_environment(service))
    assert done.stdout.splitlines()[1:] == ["serving", "ended"], done.stderr
    refused = done.stderr.splitlines()
    assert len(refused) == 3
    assert all("Permission denied" in line for line in refused)


def test_an_ordinary_user_clears_a_mount_whose_process_has_died(
    service: EmbeddedService, user: Ordinary
) -> None:
    script = """
        mkdir mnt && trap 'flowfs umount --lazy mnt; rmdir mnt' EXIT
        kill -9 $(flowfs mount --json mnt | sed 's/.*"pid": \\([0-9]*\\).*/\\1/')
        until ls mnt 2>&1 | grep -q 'not connected'; do sleep 0.1; done
        flowfs mount mnt && ls mnt && flowfs umount mnt && trap 'rmdir mnt' EXIT
    """
    done = user.run(script, command_environment(service))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1:] == ["groups", "workflows"]
    assert "has been cleared" in done.stderr


def test_another_users_mount_is_not_an_ordinary_users_to_end(
    service: EmbeddedService, user: Ordinary
) -> None:
    busy = user.home.parent / "busy"  # not a word of umount's
    busy.mkdir()
    with mountpoint(busy) as directory, mounted_in_background(service, directory):
        done = user.run(f"flowfs umount {directory}", command_environment(service))
        assert done.returncode == 1
        assert done.stderr == (
            f"flowfs: {directory}: another user mounted it, who alone can end it, or root\n"
        )
        assert is_mounted(directory)
        # Nothing that the user's namespace held keeps it.
        assert flowfs("umount", directory).returncode == 0


def test_what_fusermount_refuses_an_ordinary_user_is_said(
    service: EmbeddedService, user: Ordinary
) -> None:
    roots = user.home.parent / "roots"
    roots.mkdir(mode=0o755)
    done = user.run(f"flowfs mount {roots}", command_environment(service))
    assert done.returncode == 4
    assert "no write access" in done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"flowfs: {roots}: cannot mount there: ")
