"""Run a notebook as a pipeline stage: `python -m mmrec run 03_train demo`.

papermill executes notebooks/<name>.ipynb with the data set, if one is given, as its parameter; the executed copy goes
to reports/<dataset>/<name>.ipynb (to reports/ if it is about all) without times and random ids, so that the same run
gives the same bytes. Progress, which holds times, goes to the terminal and never into the notebook.
"""

import itertools
import os
import re
import sys
import tempfile
import threading
from pathlib import Path

import nbformat
import papermill
from papermill.exceptions import PapermillExecutionError

from mmrec import config, runtime
from mmrec.files import atomic

BEFORE_TRAINING = ("01_prepare_data", "02_extract_features")


class NotebookError(RuntimeError):
    """A notebook does not exist, or one of its cells failed; the message is for a person."""


def _failed(paths: config.Paths, name: str, dataset: str) -> Path:
    return paths.runs / "failed" / f"{dataset or 'all'}-{name}.ipynb"


def execute(paths: config.Paths, settings: config.Config, name: str, dataset: str) -> None:
    """Run one notebook on one data set ("": it is about all) and put the executed copy into reports/.

    Raises:
        NotebookError: no such notebook; or a cell failed: .runs/failed/ holds the notebook with the error in it, and
            the copy in reports/ is what it was.
    """
    notebooks = sorted(path.stem for path in (paths.root / "notebooks").glob("*.ipynb"))
    if name not in notebooks:
        raise NotebookError(f"no notebook {name!r}; one of {notebooks}")
    failed = _failed(paths, name, dataset)
    failed.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, _shown(Path(folder) / "progress") as progress:
        # Sequences and features are the same bits on every machine, whatever arithmetic training has.
        of_training = dataset and name not in BEFORE_TRAINING
        runtime.enter(settings.runtime_of(dataset) if of_training else settings.runtime)
        os.environ["MMREC_PROGRESS"] = str(progress)
        try:
            papermill.execute_notebook(
                paths.root / "notebooks" / f"{name}.ipynb",
                failed,
                parameters={"dataset": dataset} if dataset else {},
                kernel_name="python3",
                cwd=paths.root,
                progress_bar=False,
                log_output=False,
            )
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
    """The notebook without what differs between two equal runs: times, durations, paths of the run.

    What a cell prints arrives in pieces, cut by the clock: neighbouring pieces become one output. A warning names a
    file after the process that compiled the cell: the process number goes.
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
    joined: list[nbformat.NotebookNode] = []
    for output in outputs:
        if output.output_type == "stream":
            output.text = re.sub(r"ipykernel_\d+", "ipykernel", output.text)
            begun = itertools.takewhile(lambda earlier: earlier.output_type == "stream", reversed(joined))
            same = next((earlier for earlier in begun if earlier.name == output.name), None)
            if same:
                same.text += output.text
                continue
        joined.append(output)
    return joined


class _shown:
    """A file whose new lines are copied to the terminal while the block runs."""

    def __init__(self, path: Path):
        self.path, self.done = path, threading.Event()
        self.thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> Path:
        self.path.touch()
        self.thread.start()
        return self.path

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join()

    def _follow(self) -> None:
        with self.path.open(encoding="utf-8") as file:
            while True:
                last_look = self.done.wait(0.5)
                sys.stderr.write(file.read())
                sys.stderr.flush()
                if last_look:
                    return
