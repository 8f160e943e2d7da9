"""Many programs for a long time, on a mount and with fsspec, and everything fails now and then.

Between them and the real service is a proxy that spoils a part of the requests (``faulty``). The
service is killed every minute, and the process that serves the mount every five; a reader who
shares the cache is killed every few seconds. Readers compare every byte with what the service
has; writers upload, append, rename, remove, start, cancel and delete, and look whether that is
so (``soak_work``). What they did is compared with what the service has at the end
(``soak_ledger``). Errors are allowed where a fault or a kill explains them, and only there
(``soak_found``). Meanwhile the memory, threads and open files of the processes are watched.

As a command (``./scripts/soak``) it prints what it found, and exits with 1 if anything was
wrong; ``tests/test_mount_endurance.py`` runs it for a short time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from faulty import Faulty
from soak_course import Course, Mount, Service, Workers
from soak_found import STEP_BOUND, Failed, Findings
from soak_ledger import Ledger, Start, compare
from soak_world import Plan, World, new_groups, prepare
from support import Rest, lasting_port

__all__ = ["Plan", "soak"]


def soak(plan: Plan) -> Findings:
    """Let readers and writers work as a plan says, and return what was found."""
    with contextlib.ExitStack() as stack:
        place = Path(tempfile.mkdtemp(prefix="flowfs-soak-"))
        stack.callback(lambda: None if plan.keep else shutil.rmtree(place, ignore_errors=True))
        stack.enter_context(_temporary_files_in(place / "tmp"))
        service = Service(place)
        stack.callback(lambda: service.now.stop())
        known, runs = prepare(service.now, place)
        writers = plan.mount_writers + plan.writers
        first = service.now
        proxy = Faulty(
            first.endpoint, first.token, lasting_port(), delay=plan.delay, without=plan.without
        )
        stack.enter_context(proxy)
        world = World(
            str(place),
            str(place / "mnt"),
            proxy.endpoint,
            proxy.token,
            first.groups["hello"],
            new_groups(first, writers),
            known,
            runs,
            plan.pause,
            plan.timeout,
            plan.cache_size,
        )
        mount = Mount(proxy, place, plan, world)
        stack.callback(mount.end)
        workers = Workers(world, plan)
        stack.callback(workers.kill)
        found = Course(plan, proxy, service, mount, workers).run(world.over)
        found.late += workers.end()
        failed, ledgers = _read(sorted(place.glob("found-*")), found)
        found.judge(failed, proxy.disturbances, plan.after)
        if len(ledgers) < writers:
            found.wrong.append(f"of {writers} ledgers there are {len(ledgers)}")
        mount.end()
        _count(found, proxy, service, ledgers)
        _look_for_leavings(found, place, mount, plan)
        return found


@contextlib.contextmanager
def _temporary_files_in(place: Path) -> Iterator[None]:
    """Have all processes that are begun keep their temporary files in a place."""
    place.mkdir()
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(place)
    try:
        yield
    finally:
        del os.environ["TMPDIR"]
        if before is not None:
            os.environ["TMPDIR"] = before


def _read(files: list[Path], found: Findings) -> tuple[list[Failed], list[Ledger]]:
    """Take up what workers have written down; return what failed, and the ledgers."""
    failed, ledgers = [], []
    for file in files:
        for text in file.read_text().splitlines():
            try:
                line = json.loads(text)
            except ValueError:  # of one that was killed
                continue
            if "ledger" in line:
                starts = [Start(**one) for one in line["ledger"].pop("starts")]
                ledgers.append(Ledger(starts=starts, **line["ledger"]))
                continue
            name, took = line["step"], line["took"]
            found.steps[name] += 1
            found.bytes_compared += line["bytes"]
            found.slowest[name] = max(found.slowest.get(name, 0.0), took)
            if took > STEP_BOUND:
                found.late.append(f"{name} took {took:.0f} s")
            if "wrong" in line:
                found.wrong.append(f"{name}: {line['wrong']}")
            if "failed" in line:
                failed.append(Failed(**line["failed"]))
    return failed, ledgers


def _count(found: Findings, proxy: Faulty, service: Service, ledgers: list[Ledger]) -> None:
    """Compare what the writers did with what the service has."""
    rest = Rest(service.now)
    for ledger in ledgers:
        wrong, figures = compare(ledger, rest, proxy.starts, proxy.made)
        found.wrong += wrong
        for name, count in figures.items():
            found.figures[name] = found.figures.get(name, 0) + count
        found.figures["uploads written"] = found.figures.get("uploads written", 0) + len(
            ledger.uploads
        )
    rest.close()
    asked_by_nobody = set(proxy.starts) - {s.greeting for one in ledgers for s in one.starts}
    found.wrong += [f"a start was sent that nobody asked for: {one!r}" for one in asked_by_nobody]
    found.figures |= {
        "requests": proxy.requests,
        "faults": sum(not one.kind.startswith("kill") for one in proxy.disturbances),
        "kinds of faults": len({d.kind for d in proxy.disturbances if d.kind[:4] != "kill"}),
    }


def _look_for_leavings(found: Findings, place: Path, mount: Mount, plan: Plan) -> None:
    """Look for temporary files, a cache that is too large, and what the mount complains of."""
    left = [one.name for one in (place / "tmp").iterdir()]
    # A reader that is killed in the middle of a copy had its directory made by the soak.
    found.figures["temporary files left"] = len(left)
    mine = [name for name in left if name.startswith("flowfs")]
    found.wrong += [f"a temporary file is left: {name}" for name in mine]
    files = [one for one in (place / "cache").rglob("*") if one.is_file()]
    used = sum(one.stat().st_blocks * 512 for one in files)
    found.figures["bytes in the cache"] = used
    found.figures["parts in the cache"] = sum(one.suffix == ".part" for one in files)
    # Facts may have a MiB of their own, and a log; each process counts a MiB at a time.
    if used > plan.cache_size + (16 << 20):
        found.wrong.append(f"the cache has {used} bytes, and may have {plan.cache_size}")
    log = mount.log.read_text() if mount.log.exists() else ""
    if "Traceback" in log:
        found.wrong.append(
            "the mount's log has a traceback: " + log[log.index("Traceback") :][:3000]
        )


def _report(found: Findings) -> str:
    lines = [f"{count:9}  {name}" for name, count in sorted(found.steps.items())]
    lines += [f"{count:9}  explained: {name}" for name, count in sorted(found.tolerated.items())]
    lines += [f"{value:9g}  {name}" for name, value in found.figures.items()]
    lines += [
        f"compared {found.bytes_compared / 2**20:.0f} MiB in {sum(found.steps.values())} steps; "
        f"slowest {max(found.slowest.values(), default=0):.1f} s",
        "memory (MiB), threads, open files: in the second quarter of each life, and the last",
    ]
    for life in found.lives:
        growth = life.growth()
        memory = [part / 2**20 for part in growth["memory"]]
        lines.append(
            f"  {life.name}: {len(life.samples)} samples, {memory[0]:.1f} -> {memory[1]:.1f}, "
            f"{growth['threads'][0]:g} -> {growth['threads'][1]:g}, "
            f"{growth['files'][0]:g} -> {growth['files'][1]:g}"
        )
    lines += [f"WRONG: {fault}" for fault in [*found.faults()[:80], *found.grown()]]
    return "\n".join(lines)


def main() -> int:
    """Soak as the arguments say, and print what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=1200)
    parser.add_argument("--faults", type=float, default=0.05, help="part of the requests")
    parser.add_argument("--kill-service", type=float, default=60, help="seconds between; 0: never")
    parser.add_argument("--kill-mount", type=float, default=300, help="seconds between; 0: never")
    parser.add_argument("--delay", type=float, default=0.05, help="seconds, at most")
    parser.add_argument("--pause", type=float, default=0.3, help="seconds between steps, at most")
    parser.add_argument("--fuse", default="auto", choices=("auto", "fusepy", "mfusepy"))
    parser.add_argument("--log", type=Path, help="what the mounts say")
    parser.add_argument("--keep", action="store_true", help="keep its directory")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = soak(
        Plan(
            given.seconds,
            faults=given.faults,
            kill_service=given.kill_service,
            kill_mount=given.kill_mount,
            delay=(0.0, given.delay),
            pause=given.pause,
            log=given.log and given.log.absolute(),
            mount={"fuse": given.fuse},
            keep=given.keep,
        )
    )
    sys.stdout.write(json.dumps(asdict(found)) if given.json else _report(found))
    sys.stdout.write("\n")
    return 1 if found.faults() or found.grown() else 0


if __name__ == "__main__":
    sys.exit(main())
