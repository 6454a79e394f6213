"""Run a notebook as a pipeline stage: `python -m mmrec run 03_train demo`.

papermill executes notebooks/<name>.ipynb. The data set, if any, is its parameter. The executed copy goes to
reports/<dataset>/<name>.ipynb, or to reports/ without a data set. It has neither times nor random ids, so that equal
runs give equal bytes. Progress holds times: it goes to the terminal, never into the notebook.
"""

import base64
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
import papermill
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config as Traits

from mmrec import config, runtime
from mmrec.files import atomic
from mmrec.report.figures import quantised

BEFORE_TRAINING = ("01_prepare_data", "02_extract_features")


class NotebookError(RuntimeError):
    """No such notebook, or one of its cells failed."""


def execute(paths: config.Paths, settings: config.Config, name: str, dataset: str) -> None:
    """Run one notebook on one data set ("": on all together) and put the executed copy into reports/.

    Raises:
        NotebookError: no such notebook, or a cell failed. .runs/failed/ then holds the notebook with the error, and
            the copy in reports/ stays as it was.
    """
    notebooks = sorted(path.stem for path in (paths.root / "notebooks").glob("*.ipynb"))
    if name not in notebooks:
        raise NotebookError(f"no notebook {name!r}; one of {notebooks}")
    failed = paths.runs / "failed" / f"{dataset or 'all'}-{name}.ipynb"
    failed.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, _followed(progress := Path(folder) / "progress"):
        # Sequences and features always have the portable arithmetic: the same bits on every machine.
        of_training = dataset and name not in BEFORE_TRAINING
        runtime.enter(settings.runtime_of(dataset) if of_training else settings.runtime)
        os.environ |= {"MMREC_PROGRESS": str(progress), "IPYTHONDIR": folder}  # without the user's start-up files
        profile = Path(folder, "profile_default")
        profile.mkdir()
        # A kernel that ends calls an interrupt an error now and then, after the last cell.
        (profile / "ipython_kernel_config.py").write_text("c.IPKernelApp.log_level = 50\n")
        try:
            papermill.execute_notebook(
                paths.root / "notebooks" / f"{name}.ipynb",
                failed,
                parameters={"dataset": dataset} if dataset else {},
                kernel_name="python3",
                cwd=paths.root,
                progress_bar=False,
                log_output=False,
                # Sockets of this user alone, at a short path: TCP is open to all users of the machine.
                config=Traits(AsyncKernelManager={"transport": "ipc", "ip": f"{folder}/kernel"}),
            )
        except DeadKernelError as error:
            raise NotebookError(
                f"{name} on {dataset or 'all'}: the kernel died, most often for want of memory; "
                "nothing finished is lost, and the same command goes on from there"
            ) from error
        except PapermillExecutionError as error:
            raise NotebookError(
                f"{name} on {dataset or 'all'}: {error.ename}: {error.evalue}\n"
                f"The notebook as far as it came, with the whole error: {failed}"
            ) from error
    executed = nbformat.read(failed, as_version=4)
    with atomic(paths.reports(dataset) / f"{name}.ipynb") as path:
        nbformat.write(settled(executed), path)
    failed.unlink()


def settled(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook without times, durations, paths and ids of the run, its pictures quantised.

    Jupyter cuts printed text by the clock: neighbouring pieces become one output. A warning names the process that
    compiled its cell, or the folder of the environment: number and folder go.
    """
    notebook.metadata = nbformat.from_dict(
        {key: notebook.metadata[key] for key in ("kernelspec", "language_info") if key in notebook.metadata}
    )
    notebook.metadata.get("language_info", {}).pop("version", None)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        cell.metadata = nbformat.from_dict({"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {})
        if cell.cell_type == "code":
            cell.outputs = _joined(cell.outputs)
    return notebook


def _joined(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    joined, streams = [], {}
    for output in outputs:
        if output.output_type == "stream":
            output.text = re.sub(r"ipykernel_\d+", "ipykernel", output.text)
            output.text = re.sub(r"/\S*/(?=site-packages/)", "", output.text)
            if output.name in streams:
                streams[output.name].text += output.text
                continue
            streams[output.name] = output
        else:
            streams = {}
            if png := output.get("data", {}).get("image/png"):
                # One line of base64, as IPython writes it; nbformat ends it with a line break.
                small = base64.b64encode(quantised(base64.b64decode(png))).decode()
                output.data["image/png"] = small + "\n" * png.endswith("\n")
        joined.append(output)
    return joined


@contextmanager
def _followed(path: Path) -> Iterator[None]:
    """Copy the lines that others append to a file to the terminal while the block runs.

    papermill itself shows printed output alone, and that stays in the notebook.
    """
    done = threading.Event()

    def follow() -> None:
        last_look = False
        with path.open(encoding="utf-8") as file:
            while not last_look:
                last_look = done.wait(0.5)
                sys.stderr.write(file.read())
                sys.stderr.flush()

    path.touch()
    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
