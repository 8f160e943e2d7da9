"""What is done to everybody during a soak: faults, kills, and what comes back after them."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from faulty import Disturbance, Faulty
from mounting import Address, command_environment, flowfs, is_mounted, is_running
from soak_found import STEP_BOUND, Findings, Life
from soak_work import work
from soak_world import Plan, World
from support import lasting_port, wait_until

from flowfs.embedded import EmbeddedService

__all__ = ["Course", "Mount", "Service", "Workers"]

_SAMPLE_EVERY = 1.0  # seconds
_CALM_AFTER = 48.0  # seconds of each minute, and then there are no new faults
_MINUTE = 60.0
_CALM_END = 15.0  # seconds at the end without new faults, after which nothing may fail


class Service:
    """The real service, which is killed and comes back where it was."""

    def __init__(self, place: Path) -> None:
        self._directory = place / "service"
        self._port = lasting_port()
        self.now = EmbeddedService.start(self._directory, port=self._port)

    def kill(self) -> None:
        """Kill it, and wait until it is back."""
        os.kill(self.now.pid, signal.SIGKILL)
        self.now.stop()
        self.now = EmbeddedService.start(self._directory, port=self._port, timeout=180)


class Mount:
    """A mount, whose process is killed, and which is mounted anew then."""

    def __init__(self, proxy: Faulty, place: Path, plan: Plan, world: World) -> None:
        self.directory = Path(world.mount)
        self.directory.mkdir()
        self.log = plan.log or place / "mount.log"
        self._environment = command_environment(Address(proxy.endpoint, proxy.token))
        options = {
            "timeout": plan.timeout,
            "ttl": 0.5,
            "cache-dir": world.cache,
            "cache-size": plan.cache_size,
            "log-file": self.log,
            **plan.mount,
        }
        self._options = [
            part for name, value in options.items() for part in (f"--{name}", str(value))
        ]
        self.pid = self._begin()

    def _begin(self) -> int:
        def mounted() -> int | None:
            done = flowfs(
                "mount", "--json", *self._options, self.directory, environment=self._environment
            )
            if done.returncode:  # a fault has met it: whoever called it calls it once more
                self.refused = done.stderr
                return None
            return int(json.loads(done.stdout)["pid"])

        return wait_until(mounted, 120, "a mount")

    def kill(self) -> None:
        """Kill its process, and mount on what is left of it."""
        os.kill(self.pid, signal.SIGKILL)
        wait_until(lambda: not is_running(self.pid), 30, "the end of the mount's process")
        self.pid = self._begin()

    def end(self) -> None:
        """Unmount."""
        if is_mounted(self.directory):
            flowfs("umount", self.directory, environment=self._environment)
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not is_running(self.pid), 30, "the end of the mount's process")
        if is_mounted(self.directory):
            subprocess.run(["umount", "-l", self.directory], capture_output=True, timeout=60)
        if is_running(self.pid):
            os.kill(self.pid, signal.SIGKILL)


class Workers:
    """The processes of the workers, some of whom are killed."""

    def __init__(self, world: World, plan: Plan) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._world = world
        kinds = (
            ["mount reader"] * plan.mount_readers
            + ["mount writer"] * plan.mount_writers
            + ["fsspec reader"] * plan.readers
            + ["fsspec writer"] * plan.writers
        )
        groups = iter(world.writing)
        self.running = [
            (kind, self._begin(kind, n, next(groups) if kind.endswith("writer") else ""))
            for n, kind in enumerate(kinds)
        ]
        self._next = len(kinds)
        self._victim: Any = None

    def _begin(self, kind: str, number: int, group: str = "") -> Any:
        given = (kind, number, self._world, group)
        process = self._context.Process(target=work, args=given, daemon=True)
        process.start()
        return process

    def kill_reader(self) -> bool:
        """Kill a reader who uses the cache of all, and have another; False if none was there."""
        victim, self._victim = self._victim, None
        if victim is not None:
            victim.kill()
            victim.join()
        self._next += 1 + (self._next % 3 == 2)  # one that shares the cache
        self._victim = self._begin("fsspec reader", self._next)
        return victim is not None

    def end(self) -> list[str]:
        """Wait until all have ended; return who did not, or not well."""
        if self._victim is not None:
            self._victim.kill()
            self._victim.join()
        late, until = [], time.monotonic() + 3 * STEP_BOUND
        for number, (kind, process) in enumerate(self.running):
            process.join(max(0.1, until - time.monotonic()))
            if process.exitcode is None:
                late.append(f"{kind} {number} is stuck")
            elif process.exitcode:
                late.append(f"{kind} {number} ended with {process.exitcode}")
        return late

    def kill(self) -> None:
        """Leave nobody behind."""
        for process in [self._victim, *(one for _, one in self.running)]:
            if process is not None and process.is_alive():
                process.kill()


class Course:
    """What is done to everybody while the workers work."""

    def __init__(
        self, plan: Plan, proxy: Faulty, service: Service, mount: Mount, workers: Workers
    ) -> None:
        self._plan = plan
        self._proxy = proxy
        self._service = service
        self._mount = mount
        self._workers = workers
        self._found = Findings()
        self._lives: dict[int, tuple[float, Life]] = {}
        self._done: dict[str, int] = {}

    def run(self, over: Path) -> Findings:
        """Do it until the time is up, and make a file that says so."""
        plan, proxy, begun = self._plan, self._proxy, time.monotonic()
        # As much more of the time with faults as there is time without.
        stormy = plan.faults * _MINUTE / _CALM_AFTER
        calm_end = min(_CALM_END, plan.seconds / 3)
        due = {
            "kill of the service": [plan.kill_service, 0.4 * plan.kill_service],
            "kill of the mount": [plan.kill_mount, 0.9 * plan.kill_mount],
            "kill of a reader": [plan.kill_reader, 0.0],
        }
        kills: dict[str, Callable[[], object]] = {
            "kill of the service": self._kill_service,
            "kill of the mount": self._mount.kill,
            "kill of a reader": self._workers.kill_reader,
        }
        self._done = dict.fromkeys(kills, 0)
        while (now := time.monotonic() - begun) < plan.seconds:
            stays = plan.seconds - now > calm_end
            proxy.rate = stormy if stays and now % _MINUTE < _CALM_AFTER else 0.0
            for kind, (every, at) in due.items():
                if every and now >= at and stays:
                    due[kind][1] = at + every
                    self._kill(kind, kills[kind])
            self._sample()
            time.sleep(_SAMPLE_EVERY)
        for kind, (every, _) in due.items():  # the machine may have been too slow for any
            if every and not self._done[kind]:
                self._kill(kind, kills[kind])
        proxy.rate = 0.0
        over.touch()
        self._found.figures |= {f"{kind}, times": count for kind, count in self._done.items()}
        self._found.figures["seconds"] = round(time.monotonic() - begun)
        self._found.lives = [life for _, life in self._lives.values()]
        return self._found

    def _kill(self, kind: str, kill: Callable[[], object]) -> None:
        begin = time.monotonic()
        if kill() is False:
            return
        self._done[kind] += 1
        if kind != "kill of a reader":  # which explains nothing
            self._proxy.disturbances.append(Disturbance(kind, begin, time.monotonic() + 1))

    def _kill_service(self) -> None:
        # Whoever has a connection to it loses that, and there are no others.
        self._proxy.close()
        self._service.kill()
        self._proxy.open()

    def _sample(self) -> None:
        watched = [("the mount", self._mount.pid)]
        watched += [(k, p.pid) for k, p in self._workers.running if k.startswith("fsspec")]
        now = time.monotonic()
        for name, pid in watched:
            begun, life = self._lives.setdefault(pid, (now, Life(f"{name} ({pid})")))
            with contextlib.suppress(OSError):
                life.samples.append((now - begun, *_sizes(pid)))


def _sizes(pid: int) -> tuple[int, int, int]:
    """Return a process's resident memory in bytes, its threads and its open files."""
    status = Path(f"/proc/{pid}/status").read_text()
    numbers = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    memory = int(numbers["VmRSS"].split()[0]) * 1024
    return memory, int(numbers["Threads"]), len(os.listdir(f"/proc/{pid}/fd"))
