"""JupyterLab's file browser through jupyter-fs, and displays, in a real browser.

    python tests/browser.py [--pictures DIRECTORY]

starts a service, JupyterLab and a headless Chromium, does what people do there, and says what
it saw. It ends with 1 where that is not what it should be. `scripts/browser` installs what it
needs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from lab import Lab, chromium, insist, jupyterlab, wait_for

from flowfs import FlowFileSystem
from flowfs.embedded import EmbeddedService, sample

# What would act if it were anything but text.
_HOSTILE = "<script>window.ran = 1</script><img src=x onerror='window.ran = 1'>"


def check_files(lab: Lab, fs: FlowFileSystem, group: str, pictures: Path | None) -> None:
    """Look around in the file browser, open results, upload a file and delete a run."""
    path = f"groups/{group}"
    oldest, *_, newest = _runs(fs, group)

    lab.enter("groups", group, "runs", newest, "outputs", "results")
    wait_for(lambda: lab.names() == ["plot.svg", "summary.csv", "summary.json"], "the results")
    say(f"groups/…/runs/{newest}/outputs/results lists {', '.join(lab.names())}")

    lab.open("summary.json", ".jp-Document", "days_above")
    lab.open("plot.svg", ".jp-ImageViewer img, .jp-RenderedSVG img")
    lab.open("summary.csv", ".jp-CSVViewer, .lm-DataGrid")
    say("a JSON file, a picture and a table are shown")
    if pictures is not None:
        (pictures / "jupyterlab.png").write_bytes(lab.still())

    lab.up_to(group)
    lab.enter("uploads")
    with tempfile.TemporaryDirectory() as directory:
        local = Path(directory) / "note.csv"
        local.write_text("station,date,temperature\nQuay,2025-06-01,21.5\n")
        lab.upload(local)
        lab.answer(True)  # jupyter-fs takes each file for one that is there already
        sent = lambda: fs.cat(f"{path}/uploads/note.csv") == local.read_bytes()  # noqa: E731
        wait_for(sent, "the upload")
    wait_for(lambda: "note.csv" in lab.names(), "the upload in the list")
    say("a file is uploaded, and is listed")

    lab.up_to(group)
    lab.enter("runs")
    lab.delete(f"{oldest}/", False)
    assert fs.exists(f"{path}/runs/{oldest}")
    asked = lab.delete(f"{oldest}/", True)
    wait_for(lambda: not fs.exists(f"{path}/runs/{oldest}"), "the end of the run")
    say(f"a run is deleted, once that is confirmed: {asked.splitlines()[0]!r}")
    assert fs.exists(f"{path}/runs/{newest}")


def _runs(fs: FlowFileSystem, group: str) -> list[str]:
    """Return the ids of a group's runs, the oldest first."""
    listed = [entry for entry in fs.ls(f"groups/{group}/runs") if entry["type"] == "directory"]
    return [str(entry["id"]) for entry in listed]


# What there is in the outputs of the notebook that is shown.
_OUTPUTS = """
const shown = [...document.querySelectorAll(".jp-NotebookPanel:not(.lm-mod-hidden)")];
const outputs = ".jp-RenderedHTML.jp-OutputArea-output";
const all = shown.flatMap((one) => [...one.querySelectorAll(outputs)]);
return all.map((one) => ({
    text: one.textContent,
    images: [...one.querySelectorAll("img")].map((image) => image.complete && image.naturalWidth),
    states: [...one.querySelectorAll("span")].map(
        (span) => [span.textContent, getComputedStyle(span).backgroundColor]),
    links: [...one.querySelectorAll("[href]")].map((link) => link.getAttribute("href")),
    active: one.querySelectorAll("script, iframe, object, embed, form, [onerror]").length,
}));
"""
_SUCCESS, _CANCELED = ["SUCCESS", "rgb(26, 127, 55)"], ["CANCELED", "rgb(154, 103, 0)"]


def check_displays(
    lab: Lab, service: EmbeddedService, group: str, canceled: str, directory: Path
) -> None:
    """Run a notebook, look at what it shows, save a result; then as somebody who was sent it."""
    fs = FlowFileSystem(service.endpoint, service.token)
    run = fs.run(_runs(fs, group)[-1])
    with run.open("outputs/results/summary.json") as file:
        result = file.read()
    cells = [
        "import fsspec\nfs = fsspec.filesystem('flow')\nfs",
        f"run = fs.run({run.id!r})\nopened = run.open('outputs/results/summary.json').read()\nrun",
        f"fs.show_runs({group!r}, pictures='outputs/results/plot.svg')",
        f"fs.run({canceled!r})",
    ]
    notebook = directory / "work" / "displays.ipynb"
    notebook.write_text(json.dumps(_notebook(cells)))

    lab.notebook(notebook.name)

    def shown() -> list[dict[str, Any]] | None:
        found = lab.browser.execute_script(_OUTPUTS)
        whole = len(found) == len(cells) and all(width for one in found for width in one["images"])
        return found if whole else None

    def look(where: str) -> list[dict[str, Any]]:
        outputs: list[dict[str, Any]] = wait_for(shown, f"displays, with their pictures, {where}")
        of_fs, of_run, of_runs, of_canceled = outputs
        assert service.endpoint in of_fs["text"]
        assert f"groups/{group}" in of_fs["text"]
        assert run.id in of_run["text"]
        assert _SUCCESS in of_run["states"]
        assert [one for one in of_runs["states"] if one == _SUCCESS] == [_SUCCESS, _SUCCESS]
        assert [len(one["images"]) for one in outputs] == [0, 1, 2, 0]
        assert _CANCELED in of_canceled["states"]
        assert _HOSTILE in of_canceled["text"]
        assert [one["active"] for one in outputs] == [0, 0, 0, 0]
        assert lab.browser.execute_script("return window.ran === undefined")
        asked = lab.browser.execute_script(
            "return performance.getEntriesByType('resource').map((one) => one.name)"
        )
        assert asked
        assert not [url for url in asked if url.startswith(service.endpoint)]
        return outputs

    lab.command("notebook:run-all-cells")
    outputs = look("where they are made")
    say("a service, a run and runs are shown: states in colours, pictures loaded, nothing runs")

    links = [link for one in outputs for link in one["links"]]
    to_save = [link for link in links if link.startswith("data:application/octet-stream;base64,")]
    assert len(to_save) == 2  # the result that was read, and the picture
    to_fetch = [link for link in links if link not in to_save]
    assert to_fetch  # the other results
    assert all(link.startswith(f"{service.endpoint}/runs/{run.id}/") for link in to_fetch)
    downloads = directory / "downloads"
    insist(
        lambda: lab.click('.jp-NotebookPanel:not(.lm-mod-hidden) a[download="summary.json"]'),
        lambda: (downloads / "summary.json").read_bytes() == result,
        "a result that is saved",
    )
    say("a result is saved from where it is shown, and has the bytes that it has")
    with run.open("outputs/results/summary.csv") as file:
        table = file.read()
    insist(
        lambda: lab.click(".jp-NotebookPanel:not(.lm-mod-hidden) a[target=_blank]"),
        lambda: table in [path.read_bytes() for path in downloads.glob("*.csv")],
        "a result that comes from the service",
    )
    say("a result that is not at hand comes from the service, without a token")

    lab.command("docmanager:save")
    wait_for(lambda: notebook.read_text().count(_CANCELED[0]), "the notebook, saved")
    kept = notebook.read_text()
    assert service.token not in kept
    # One that somebody else has made: JupyterLab does not trust it.
    sent = json.loads(kept)
    sent["metadata"]["title"] = "sent"
    (directory / "work" / "sent.ipynb").write_text(json.dumps(sent))
    lab.notebook("sent.ipynb")
    outputs = look("where nobody trusts them")
    assert [link for one in outputs for link in one["links"]] == to_fetch
    say("the same in a notebook that JupyterLab does not trust, where nothing can be saved from it")


def _notebook(cells: list[str]) -> dict[str, Any]:
    """Return a notebook of cells of Python that nobody has run."""
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    made = [
        {
            "cell_type": "code",
            "id": f"cell-{number}",
            "execution_count": None,
            "metadata": {},
            "outputs": [],
            "source": text,
        }
        for number, text in enumerate(cells)
    ]
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return {"cells": made, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def say(text: str) -> None:
    """Tell what was seen."""
    sys.stdout.write(f"seen: {text}\n")
    sys.stdout.flush()


def main() -> None:
    """Run all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=Path, help="write screenshots into this directory")
    options = parser.parse_args()
    python = os.environ.get("FLOWFS_TEST_SERVICE_PYTHON", sys.executable)
    with contextlib.ExitStack() as stack:
        service = stack.enter_context(EmbeddedService.start(python=python))
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        fs = FlowFileSystem(service.endpoint, service.token, ttl=0)
        group, hello = service.groups["analysis"], service.groups["hello"]
        fs.put(str(sample("analysis")), f"groups/{group}/uploads/stations.csv")
        fs.pipe(f"groups/{hello}/uploads/names.txt", b"Ada\n")
        long = fs.start_run(hello, {"names": "names.txt", "sleeptime": 600})["id"]
        fs.cancel_run(long, _HOSTILE)
        for window in (7, 14, 28):  # one after the other, so that it is known which is the oldest
            fs.wait([fs.start_run(group, {"data": "stations.csv", "window": window})])
        fs.wait([long])
        url = stack.enter_context(jupyterlab(service, directory))
        browser = stack.enter_context(chromium(directory / "downloads"))
        try:
            lab = Lab(browser, url)
            check_files(lab, fs, group, options.pictures)
            check_displays(lab, service, group, long, directory)
        except BaseException:
            kept = Path(tempfile.mkdtemp(prefix="flowfs-browser-"))
            shutil.copy(directory / "jupyterlab.log", kept)
            sys.stderr.write((kept / "jupyterlab.log").read_text("utf-8", "replace")[-4000:])
            sys.stderr.write(f"FAILED: log and screen are in {kept}\n")
            browser.save_screenshot(str(kept / "screen.png"))
            raise
    say("all that was to be seen")


if __name__ == "__main__":
    main()
