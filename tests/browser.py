"""JupyterLab's file browser through jupyter-fs, and displays, in a real browser.

    python tests/browser.py [--pictures DIRECTORY]

starts a service, JupyterLab and a headless Chromium, does what people do there, and says what
it saw. It ends with 1 where that is not what it should be. `scripts/browser` installs what it
needs.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from support import lasting_port

from flowfs import FlowFileSystem
from flowfs.embedded import EmbeddedService, sample

_PATIENCE = 120.0  # seconds for anything to appear

_PAGE = Path(__file__).parents[1] / "docs" / "notebooks.md"


def configuration() -> str:
    """Return what the documentation says to write into `jupyter_server_config.py`."""
    blocks = re.findall(r"^```text\n(.*?)^```$", _PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    (block,) = (block for block in blocks if "c.JupyterFs.resources" in block)
    # Nobody is to be asked about news.
    return f'{block}c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"\n'


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    """Return the first true value; what is not there yet may be an error of the browser's."""
    ends = time.monotonic() + _PATIENCE
    while True:
        with contextlib.suppress(WebDriverException, OSError):
            if value := condition():
                return value
        if time.monotonic() > ends:
            raise AssertionError(f"not within {_PATIENCE:g} s: {what}")
        time.sleep(0.1)


def environment_of(service: EmbeddedService) -> dict[str, str]:
    """Return what ``flowfs serve`` prints to be pasted."""
    address = urlsplit(service.endpoint)
    return {
        "FLOWSERV_API_PROTOCOL": address.scheme,
        "FLOWSERV_API_HOST": str(address.hostname),
        "FLOWSERV_API_PORT": str(address.port),
        "FLOWSERV_API_PATH": address.path,
        "FLOWSERV_ACCESS_TOKEN": service.token,
    }


@contextlib.contextmanager
def jupyterlab(service: EmbeddedService, directory: Path) -> Iterator[str]:
    """Start JupyterLab in a directory, with the service in its file browser; yield its URL."""
    port, token = lasting_port(), secrets.token_hex(16)
    (directory / "config").mkdir()
    (directory / "config" / "jupyter_server_config.py").write_text(configuration())
    (directory / "work").mkdir()
    news = directory / "settings" / "@jupyterlab" / "apputils-extension"
    news.mkdir(parents=True)
    (news / "notification.jupyterlab-settings").write_text('{"fetchNews": "false"}')
    variables = {
        **os.environ,
        **environment_of(service),
        "HOME": str(directory),
        "JUPYTER_CONFIG_DIR": str(directory / "config"),
        "JUPYTER_DATA_DIR": str(directory / "data"),
        "JUPYTER_RUNTIME_DIR": str(directory / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(directory / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(directory / "workspaces"),
        "IPYTHONDIR": str(directory / "ipython"),
        "JUPYTER_TOKEN": token,
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1"]
    command += [f"--port={port}", "--ServerApp.port_retries=0", "--allow-root"]
    command += [f"--notebook-dir={directory / 'work'}"]
    url = f"http://127.0.0.1:{port}"
    with (directory / "jupyterlab.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env=variables,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_for(
                lambda: (
                    requests.get(
                        f"{url}/api/status", headers={"Authorization": f"token {token}"}, timeout=10
                    ).ok
                ),
                "JupyterLab",
            )
            yield f"{url}/lab?token={token}"
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def chromium() -> Iterator[webdriver.Chrome]:
    """Start a browser that nobody sees."""
    options = Options()
    options.binary_location = _program("chromium", "chromium-browser", "google-chrome")
    options.add_argument("--headless=new")
    options.add_argument("--disable-gpu")
    options.add_argument("--disable-dev-shm-usage")
    options.add_argument("--window-size=1280,820")
    if os.getuid() == 0:
        options.add_argument("--no-sandbox")
    driver = webdriver.Chrome(options, Service(_program("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


def _program(*names: str) -> str:
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        sys.exit(f"there is no {names[0]}")
    return found


# What opens a chooser of files would wait for a person: the input is put where it can be filled.
_CATCH_INPUTS = """
HTMLInputElement.prototype.click = function () {
    this.id = "caught";
    document.body.appendChild(this);
};
"""


class Lab:
    """JupyterLab in a browser, with the service's tab of the sidebar open."""

    def __init__(self, browser: webdriver.Chrome, url: str) -> None:
        self.browser = browser
        browser.get(url)
        wait_for(lambda: self.all("#jp-main-dock-panel .jp-Launcher"), "JupyterLab's launcher")
        wait_for(lambda: self.all('.jp-SideBar li[title="flow"]'), "the tab of the service")[
            0
        ].click()

    def all(self, selector: str) -> list[Any]:
        """Return what can be seen and matches."""
        found = self.browser.find_elements(By.CSS_SELECTOR, selector)
        return [element for element in found if element.is_displayed()]

    def names(self) -> list[str]:
        """Return what the file browser lists."""
        return [one.text for one in self.all("tree-finder-grid .rt-group-name")]

    def act(self, what: str, name: str) -> None:
        """Do something with a name in the list: ``double_click``, ``context_click``, ``click``."""

        def done() -> bool:
            for one in self.all("tree-finder-grid .rt-group-name"):
                if one.text == name:
                    getattr(ActionChains(self.browser), what)(one).perform()
                    return True
            return False

        wait_for(done, f"{name} in the list")

    def enter(self, *names: str) -> None:
        """Go down into directories, one after the other."""
        for name in names:
            self.act("double_click", f"{name}/")
            wait_for(
                lambda name=name: (
                    self.all("tree-finder-breadcrumbs .tf-breadcrumbs-crumb")[-1].text == name
                ),
                f"{name} as where the list is",
            )

    def up_to(self, name: str) -> None:
        """Go up to a directory above."""
        for crumb in self.all("tree-finder-breadcrumbs .tf-breadcrumbs-crumb"):
            if crumb.text == name:
                crumb.click()
                break
        wait_for(
            lambda: self.all("tree-finder-breadcrumbs .tf-breadcrumbs-crumb")[-1].text == name,
            f"{name} as where the list is",
        )

    def choose(self, command: str) -> None:
        """Choose from the menu that is open."""
        wait_for(lambda: self.all(f'.lm-Menu-item[data-command="{command}"]'), command)[0].click()

    def answer(self, accept: bool) -> str:
        """Answer the question that is asked, and return it."""
        (dialog,) = wait_for(lambda: self.all(".jp-Dialog-content"), "a question")
        asked = str(dialog.text)
        self.all(f".jp-Dialog .jp-mod-{'accept' if accept else 'reject'}")[0].click()
        wait_for(lambda: not self.all(".jp-Dialog-content"), "the end of the question")
        return asked

    def upload(self, path: Path) -> None:
        """Upload a file to where the list is, with the button."""
        self.browser.execute_script(_CATCH_INPUTS)
        self.all(".jp-id-upload button, .jp-id-upload jp-button, .jp-id-upload")[0].click()
        wait_for(lambda: self.browser.find_elements(By.ID, "caught"), "what takes files")
        self.browser.find_element(By.ID, "caught").send_keys(str(path))

    def picture(self, path: Path | None) -> None:
        """Keep what can be seen."""
        if path is not None:
            self.browser.save_screenshot(str(path))


def check(lab: Lab, fs: FlowFileSystem, group: str, pictures: Path | None, work: Path) -> None:
    """Do what people do, and see what comes of it."""
    path = f"groups/{group}"
    newest, other = (fs.info(f"{path}/runs/{one}")["id"] for one in _run_names(fs, path))

    lab.enter("groups", group, "runs", newest, "outputs", "results")
    wait_for(lambda: lab.names() == ["plot.svg", "summary.csv", "summary.json"], "the results")
    say(f"groups/…/runs/{newest}/outputs/results lists {', '.join(lab.names())}")

    lab.act("double_click", "summary.json")
    wait_for(lambda: "days_above" in "".join(e.text for e in lab.all(".jp-Document")), "the text")
    lab.act("double_click", "plot.svg")
    wait_for(lambda: lab.all(".jp-ImageViewer img, .jp-RenderedSVG img"), "the picture")
    lab.act("double_click", "summary.csv")
    wait_for(lambda: lab.all(".jp-CSVViewer, .lm-DataGrid"), "the table")
    say("a JSON file, a picture and a table are shown")
    time.sleep(2)  # for what moves into its place: only the screenshot is the better for it
    lab.picture(None if pictures is None else pictures / "jupyterlab.png")

    lab.up_to(group)
    lab.enter("uploads")
    local = work / "note.csv"
    local.write_text("station,date,temperature\nQuay,2025-06-01,21.5\n")
    lab.upload(local)
    lab.answer(True)  # jupyter-fs takes each file for one that is there already
    wait_for(lambda: fs.exists(f"{path}/uploads/note.csv"), "the upload")
    assert fs.cat(f"{path}/uploads/note.csv") == local.read_bytes()
    wait_for(lambda: "note.csv" in lab.names(), "the upload in the list")
    say("a file is uploaded, and is listed")

    lab.up_to(group)
    lab.enter("runs")
    wait_for(lambda: f"{other}/" in lab.names(), "the runs")
    for accept in (False, True):
        lab.act("context_click", f"{other}/")
        lab.choose("treefinder:delete")
        asked = lab.answer(accept)
        if accept:
            wait_for(lambda: not fs.exists(f"{path}/runs/{other}"), "the end of the run")
        else:
            assert fs.exists(f"{path}/runs/{other}")
    say(f"a run is deleted, once that is confirmed: {asked.splitlines()[0]!r}")
    assert fs.exists(f"{path}/runs/{newest}")


def _run_names(fs: FlowFileSystem, path: str) -> list[str]:
    listed = [entry["name"] for entry in fs.ls(f"{path}/runs") if entry["type"] == "directory"]
    return [name.rpartition("/")[2] for name in reversed(listed)]


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
        group = service.groups["analysis"]
        fs.put(str(sample("analysis")), f"groups/{group}/uploads/stations.csv")
        fs.wait(fs.start_runs(group, [{"data": "stations.csv", "window": n} for n in (7, 28)]))
        url = stack.enter_context(jupyterlab(service, directory))
        browser = stack.enter_context(chromium())
        try:
            check(Lab(browser, url), fs, group, options.pictures, directory)
        except BaseException:
            kept = Path(tempfile.mkdtemp(prefix="flowfs-browser-"))
            shutil.copy(directory / "jupyterlab.log", kept)
            browser.save_screenshot(str(kept / "screen.png"))
            sys.stderr.write(f"FAILED: log and screen are in {kept}\n")
            raise
    say("all that was to be seen")


if __name__ == "__main__":
    main()
