"""JupyterLab with a service in its file browser, and a browser in which somebody uses it."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import subprocess
import sys
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

from flowfs.embedded import EmbeddedService

__all__ = ["Lab", "chromium", "insist", "jupyterlab", "wait_for"]

_PATIENCE = 120.0  # seconds for anything to appear

_PAGE = Path(__file__).parents[1] / "docs" / "notebooks.md"


def configuration() -> str:
    """Return what the documentation says to write into `jupyter_server_config.py`."""
    blocks = re.findall(r"^```text\n(.*?)^```$", _PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    (block,) = (block for block in blocks if "c.JupyterFs.resources" in block)
    # Nobody is to be asked about news.
    return f'{block}c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"\n'


def wait_for(condition: Callable[[], Any], what: str, seconds: float = _PATIENCE) -> Any:
    """Return the first true value; what is not there yet may be an error of the browser's."""
    ends = time.monotonic() + seconds
    while True:
        trouble = None
        try:
            if value := condition():
                return value
        except (WebDriverException, OSError, LookupError) as error:
            trouble = error
        if time.monotonic() > ends:
            raise AssertionError(f"not within {seconds:g} s: {what}") from trouble
        time.sleep(0.1)


def insist(act: Callable[[], Any], condition: Callable[[], Any], what: str) -> Any:
    """Do something, and again where nothing comes of it, as people do; return what came of it.

    A page that is slow may take a click for one of something that it has just replaced.
    """
    ends = time.monotonic() + _PATIENCE
    while True:
        act()
        try:
            return wait_for(condition, what, 15)
        except AssertionError:
            if time.monotonic() > ends:
                raise


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
    command += [f"--notebook-dir={directory / 'work'}", "--LabApp.expose_app_in_browser=True"]
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
        headers = {"Authorization": f"token {token}"}

        def answers() -> bool:
            return (
                process.poll() is not None
                or requests.get(f"{url}/api/status", headers=headers, timeout=60).ok
            )

        try:
            wait_for(answers, "JupyterLab")
            assert process.poll() is None, "JupyterLab has ended"
            yield f"{url}/lab?token={token}"
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def chromium(downloads: Path) -> Iterator[webdriver.Chrome]:
    """Start a browser that nobody sees, which saves what it is told to save in a directory."""
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
        saving = {"behavior": "allow", "downloadPath": str(downloads)}
        driver.execute_cdp_cmd("Browser.setDownloadBehavior", saving)
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
        insist(
            lambda: self.click('.jp-SideBar li[title="flow"]'),
            lambda: self.all("tree-finder-grid .rt-group-name"),
            "the list of the service",
        )

    # -- what can be seen --------------------------------------------------

    def all(self, selector: str) -> list[Any]:
        """Return what can be seen and matches."""
        found = self.browser.find_elements(By.CSS_SELECTOR, selector)
        return [element for element in found if element.is_displayed()]

    def names(self) -> list[str]:
        """Return what the file browser lists."""
        return [one.text for one in self.all("tree-finder-grid .rt-group-name")]

    def where(self) -> str:
        """Return the name of the directory whose list is shown."""
        return str(self.all("tree-finder-breadcrumbs .tf-breadcrumbs-crumb")[-1].text)

    def still(self) -> bytes:
        """Return a picture of what can be seen, once nothing moves any more."""
        before = b""

        def same() -> bytes | None:
            nonlocal before
            now = self.browser.get_screenshot_as_png()
            before, last = now, before
            return now if now == last else None

        return bytes(wait_for(same, "a picture in which nothing moves"))

    # -- what can be done --------------------------------------------------

    def click(self, selector: str) -> None:
        """Click on the first that can be seen and matches."""

        def done() -> bool:
            self.all(selector)[0].click()
            return True

        wait_for(done, selector)

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

            def go(name: str = name) -> None:
                wait_for(
                    lambda: self.where() == name or f"{name}/" in self.names(),
                    f"{name} in the list",
                )
                if self.where() != name:
                    self.act("double_click", f"{name}/")

            insist(go, lambda name=name: self.where() == name, f"{name} as where the list is")

    def up_to(self, name: str) -> None:
        """Go up to a directory above."""

        def go() -> None:
            for crumb in self.all("tree-finder-breadcrumbs .tf-breadcrumbs-crumb"):
                if crumb.text == name:
                    crumb.click()
                    return

        def done() -> bool:
            with contextlib.suppress(WebDriverException):
                go()
            return self.where() == name

        wait_for(done, f"{name} as where the list is")

    def open(self, name: str, shown: str, words: str = "") -> None:
        """Open a file of the list, and wait for what can be seen then."""
        insist(
            lambda: self.act("double_click", name),
            lambda: [one for one in self.all(shown) if words in one.text],
            f"{name}, open",
        )

    def delete(self, name: str, accept: bool) -> str:
        """Choose to delete something of the list, and answer the question; return that."""

        def choose() -> None:
            self.act("context_click", name)
            with contextlib.suppress(WebDriverException, LookupError):
                self.all('.lm-Menu-item[data-command="treefinder:delete"]')[0].click()

        insist(choose, lambda: self.all(".jp-Dialog-content"), "a question")
        return self.answer(accept)

    def answer(self, accept: bool) -> str:
        """Answer the question that is asked, and return it."""
        asked = str(wait_for(lambda: self.all(".jp-Dialog-content")[0].text, "a question"))
        self.click(f".jp-Dialog .jp-mod-{'accept' if accept else 'reject'}")
        wait_for(lambda: not self.all(".jp-Dialog-content"), "the end of the question")
        return asked

    def upload(self, path: Path) -> None:
        """Upload a file to where the list is, with the button."""
        self.browser.execute_script(_CATCH_INPUTS)
        insist(
            lambda: self.click(".jp-id-upload button, .jp-id-upload jp-button, .jp-id-upload"),
            lambda: self.browser.find_elements(By.ID, "caught"),
            "what takes files",
        )
        self.browser.find_element(By.ID, "caught").send_keys(str(path))

    def command(self, name: str, **arguments: Any) -> None:
        """Have JupyterLab begin what one of its menus or keys would have it do."""
        self.browser.execute_script(_COMMAND, name, arguments)

    def notebook(self, name: str) -> None:
        """Open a notebook, and wait until its kernel is there."""
        self.command("docmanager:open", path=name, factory="Notebook")
        wait_for(lambda: self.browser.execute_script(_READY, name), f"{name}, with a kernel")


_COMMAND = "window.jupyterapp.commands.execute(arguments[0], arguments[1]);"
# Before that, to run a cell would ask for a kernel.
_READY = """
const { context, sessionContext } = window.jupyterapp.shell.currentWidget;
const kernel = sessionContext.session?.kernel;
return context.path === arguments[0] && sessionContext.isReady
    && kernel?.connectionStatus === "connected" && kernel.status === "idle";
"""
