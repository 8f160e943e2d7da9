"""The demonstration where nothing can be mounted: the same through fsspec."""

from __future__ import annotations

import os
from typing import Any

from flowfs.demo.mounted import read_results
from flowfs.demo.prompt import Prompt
from flowfs.demo.screen import Screen
from flowfs.demo.stage import Stage

__all__ = ["show_unmounted"]


def show_unmounted(screen: Screen, stage: Stage, prompt: Prompt, *, has_pandas: bool) -> None:
    """Show the whole way in Python.

    Raises
    ------
    Exception
        What a step raised that should not have.
    """
    here = os.fspath(stage.directory)

    screen.step("The service as a file system")
    prompt.run(
        "import os, fsspec\n"
        f'fs = fsspec.filesystem("flow", endpoint="{stage.service.endpoint}",\n'
        '                       token=os.environ["FLOWSERV_ACCESS_TOKEN"])\n'
        "fs.ls('', detail=False)\n"
        "G = fs.info(fs.glob('workflows/*/groups/analysis')[0])['target']; G\n"
        "for entry in fs.ls(G):\n    print(entry['type'], entry['name'])"
    )

    screen.step("Upload a file of measurements")
    prompt.run(
        f"fs.put('{here}/stations.csv', f'{{G}}/uploads/')\n"
        "for entry in fs.ls(f'{G}/uploads'):\n    print(fs.size(entry['name']), entry['name'])"
    )

    screen.step("Start a run: write its arguments to `new`")
    prompt.run(
        "import json\n"
        "with fs.open(f'{G}/runs/new', 'wt') as new:\n"
        '    json.dump({"data": "stations.csv", "threshold": 22.5}, new)\n'
        "R = f\"{G}/runs/{new.run['id']}\"; R"
    )

    screen.step("Wait for it: the file `cancel` is there while it is active")
    fs: Any = prompt.value("fs")
    run: str = prompt.value("R")
    prompt.run("import time")
    wait = "while fs.exists(f'{R}/cancel'): time.sleep(0.2)"
    screen.command(f"{wait}\n", ">>> ", "... ")
    with screen.watching(lambda: str(fs.ls(run, refresh=True) and fs.info(run)["state"])):
        prompt.go(wait)

    screen.step("Look at it")
    prompt.run(
        "for name in fs.find(R):\n"
        "    print(fs.size(name), name.removeprefix(R))\n"
        "fs.ls(f'{G}/states/SUCCESS', detail=False)"
    )

    screen.step("Read its results")
    prompt.run("print(fs.cat(f'{R}/outputs/results/summary.csv').decode(), end='')")
    prompt.run(
        "import tarfile\n"
        "with fs.open(f'{R}/archive.tar.gz') as file, tarfile.open(fileobj=file) as archive:\n"
        "    archive.getnames()"
    )
    read_results(screen, prompt, stage.service.endpoint, None, has_pandas=has_pandas)

    screen.step("A start that is refused says what is wrong")
    prompt.run(
        "try:\n"
        '    _ = fs.start_run(G.split("/")[1], {"data": "nowhere.csv", "window": "wide"})\n'
        "except ValueError as error:\n"
        "    print(error)\n"
        "print(fs.cat(f'{G}/runs/new.error').decode(), end='')"
    )

    screen.step("Cancel a run: write the reason to `cancel`")
    prompt.run(
        "H = fs.info(fs.glob('workflows/*/groups/hello')[0])['target']\n"
        f"fs.put('{here}/names.txt', f'{{H}}/uploads/')\n"
        'handle = fs.start_run(H.split("/")[1], {"names": "names.txt", "sleeptime": 600})\n'
        "C = f\"{H}/runs/{handle['id']}\"\n"
        "fs.pipe(f'{C}/cancel', b'ten minutes are too long')\n"
        "fs.info(C)['state'], json.loads(fs.cat(f'{C}/handle.json'))['messages']"
    )

    screen.step("Delete a run: its results go with it")
    prompt.run("fs.rm(R, recursive=True)\nfs.ls(f'{G}/runs', detail=False)")
