"""The demonstration on a mount: a shell's commands, and Python beside it."""

from __future__ import annotations

from flowfs import FlowFileSystem
from flowfs.demo.prompt import Prompt
from flowfs.demo.screen import Screen
from flowfs.demo.shell import Shell
from flowfs.demo.stage import Stage
from flowfs.service.endpoint import DEFAULT_PATH

__all__ = ["show_mounted"]


def show_mounted(
    screen: Screen, stage: Stage, prompt: Prompt, *, has_pandas: bool, keep: bool
) -> None:
    """Show the whole way at the shell, results also in Python.

    Raises
    ------
    FlowError
        A step did not do what it should.
    """
    shell = Shell(screen, stage.directory, stage.environment, stage.directory)

    screen.step("Mount the service")
    shell.run("mkdir mnt")
    with stage.mounting():
        shell.run(f"flowfs mount {stage.service.endpoint} mnt")
    shell.run("cd mnt")
    shell.run("ls")
    shell.run("ls -l workflows/*/groups/analysis")
    shell.run("G=$(realpath --relative-to=. workflows/*/groups/analysis); ls -F $G")

    screen.step("Upload a file of measurements")
    shell.run("head -n 3 ../stations.csv")
    shell.run("cp ../stations.csv $G/uploads/")
    shell.run("ls -l $G/uploads")

    screen.step("Start a run: write its arguments to `new`")
    shell.run("""echo '{"data": "stations.csv", "threshold": 22.5}' > $G/runs/new""")
    shell.run("R=$G/runs/$(basename $(readlink $G/latest)); echo $R")

    screen.step("Wait for it: the file `cancel` is there while it is active")
    _wait(screen, shell, "R")

    screen.step("Look at it")
    shell.run("ls -RF $R")
    shell.run("ls $G/states/SUCCESS")

    screen.step("Read its results")
    shell.run("cat $R/outputs/results/summary.csv")
    shell.run("tar tzf $R/archive.tar.gz")

    screen.step("The same in Python, without the mount")
    read_results(screen, prompt, stage.service.endpoint, shell.value("R"), has_pandas=has_pandas)

    screen.step("A start that is refused says what is wrong")
    shell.run("""echo '{"data": "nowhere.csv", "window": "wide"}' > $G/runs/new""", fails=True)
    shell.run("cat $G/runs/new.error")

    screen.step("Cancel a run: write the reason to `cancel`")
    shell.run("H=$(realpath --relative-to=. workflows/*/groups/hello); cp ../names.txt $H/uploads/")
    shell.run("""echo '{"names": "names.txt", "sleeptime": 600}' > $H/runs/new""")
    shell.run("C=$H/runs/$(basename $(readlink $H/latest)); ls $C")
    shell.run("echo 'ten minutes are too long' > $C/cancel")
    shell.run("ls $H/states/CANCELED; grep -A 2 messages $C/handle.json")

    screen.step("Delete a run: its results go with it")
    shell.run("rm -r $R")
    shell.run("ls $G/runs")

    if not keep:
        screen.step("Unmount")
        shell.run("cd ..")
        shell.run("flowfs umount mnt")
        stage.await_unmounted()


def _wait(screen: Screen, shell: Shell, variable: str) -> None:
    """Wait for a run's end with a shell's means, while its state is shown."""
    fs = FlowFileSystem()
    run = shell.value(variable)
    command = f"while [ -e ${variable}/cancel ]; do sleep 0.2; done"
    screen.command(command)
    with screen.watching(lambda: str(fs.ls(run, refresh=True) and fs.info(run)["state"])):
        shell.go(command)


def read_results(
    screen: Screen, prompt: Prompt, endpoint: str, run: str | None, *, has_pandas: bool
) -> None:
    """Read a table of a run's results from its URL, with pandas where it is there.

    Parameters
    ----------
    run : str or None
        The run's path; None where the prompt has it already as ``R``.
    """
    if run is not None:
        prompt.run(f'import os\nR = "{run}"')
    # flowServ's own root may be left out.
    service = endpoint.replace("http://", "flow://").removesuffix(DEFAULT_PATH)
    prompt.run(
        f'url = f"{service}/{{R}}/outputs/results/summary.csv"\n'
        'options = {"token": os.environ["FLOWSERV_ACCESS_TOKEN"]}'
    )
    if has_pandas:
        prompt.run("import pandas\nprint(pandas.read_csv(url, storage_options=options))")
    else:
        screen.note("pandas is not installed; fsspec reads it as well.")
        prompt.run(
            "import fsspec\n"
            "with fsspec.open(url, 'rt', **options) as file:\n    print(file.read(), end='')"
        )
