import base64
import io
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from PIL import Image

from mmrec import config
from mmrec.report.notebook import NotebookError, execute, settled

ROOT = Path(__file__).parents[3]


def code(source: str, *tags: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_code_cell(source, metadata={"tags": list(tags)} if tags else {})


def write(folder: Path, name: str, *sources: str) -> None:
    cells = [nbformat.v4.new_markdown_cell("# Title"), code('dataset = "none"', "parameters"), *map(code, sources)]
    (folder / "notebooks").mkdir(exist_ok=True)
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), folder / "notebooks" / f"{name}.ipynb")


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.delenv("MMREC_WORK", raising=False)
    monkeypatch.setattr(os, "environ", os.environ.copy())  # which `execute` adds to
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    return config.Paths(tmp_path, tmp_path)


@pytest.fixture
def settings():
    return config.load(ROOT / "params.yaml")


def report(project: config.Paths, name: str) -> Path:
    return project.root / "reports" / "demo" / f"{name}.ipynb"


def outputs_of(executed: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for cell in executed.cells for output in cell.get("outputs", [])]


# --- equal runs, equal bytes -------------------------------------------------------------------------------------


def palette(png: str) -> bool:
    return Image.open(io.BytesIO(base64.b64decode(png))).mode == "P"


def test_two_runs_of_a_notebook_give_the_same_bytes(project, settings, capfd):
    write(
        project.root,
        "01_small",
        "print(dataset)",
        "import time\nfor i in range(4):\n    print(i, flush=True)\n    time.sleep(0.05 * (i % 3))",
        "import warnings\nwarnings.warn('careful')",
        "import pandas\npandas.DataFrame({'a': [1]})",
        "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()",
    )
    found = []
    for _ in range(2):
        execute(project, settings, "01_small", "demo")
        found.append(report(project, "01_small").read_bytes())
    assert found[0] == found[1]
    cells = nbformat.reads(found[0].decode(), as_version=4).cells
    outputs = [cell.outputs for cell in cells if cell.cell_type == "code"]
    assert outputs[2][0].text == "demo\n"  # the data set arrived
    assert [output.text for output in outputs[3]] == ["0\n1\n2\n3\n"]
    assert "careful" in outputs[4][0].text
    assert outputs[5][0].output_type == "execute_result"
    assert palette(outputs[6][0].data["image/png"])
    assert "without encryption" not in capfd.readouterr().err
    assert not list((project.runs / "failed").iterdir())


def noisy(time: str, pieces: list[str], process: int) -> nbformat.NotebookNode:
    """A notebook as a run leaves it."""
    cell = code("print()", "shown")
    cell.metadata |= {"papermill": {"start_time": time}, "execution": {"iopub.status.busy": time}}
    cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=text) for text in pieces]
    cell.outputs += [
        nbformat.v4.new_output("stream", name="stderr", text=f"/tmp/ipykernel_{process}/7.py:1: UserWarning\n"),
        nbformat.v4.new_output(
            "stream", name="stderr", text=f"/home/{process}/lib/site-packages/a.py:1: UserWarning\n"
        ),
        nbformat.v4.new_output("stream", name="stdout", text="end\n"),
        nbformat.v4.new_output("display_data", data={"text/plain": "a figure"}),
        nbformat.v4.new_output("stream", name="stdout", text="after\n"),
    ]
    metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python", "version": f"3.{process}"},
        "papermill": {"start_time": time, "output_path": f"/tmp/{process}"},
        "widgets": {"state": process},
    }
    return nbformat.v4.new_notebook(cells=[cell], metadata=metadata)


def test_settled_removes_times_ids_paths_and_cuts_of_output():
    one = settled(noisy("10:00", ["a\n", "b\n"], 1))
    other = settled(noisy("11:11", ["a\nb\n"], 22))
    assert nbformat.writes(one) == nbformat.writes(other)


def test_settled_quantises_pictures_alone():
    kept = io.BytesIO()
    Image.linear_gradient("L").convert("RGBA").save(kept, "PNG")
    png = base64.b64encode(kept.getvalue()).decode() + "\n"
    notebook = noisy("10:00", [], 1)
    picture = nbformat.v4.new_output("display_data", data={"image/png": png, "text/plain": "<Figure>"})
    notebook.cells[0].outputs.append(picture)
    output = settled(notebook).cells[0].outputs[-1]
    assert palette(output.data["image/png"]) and output.data["image/png"].endswith("\n")
    assert output.data["text/plain"] == "<Figure>" and output.output_type == "display_data" and not output.metadata


def test_settled_keeps_outputs_their_order_and_tags():
    [cell] = settled(noisy("10:00", ["a\n", "b\n"], 1)).cells
    shown = [output.get("text") or output.data["text/plain"] for output in cell.outputs]
    assert shown == [
        "a\nb\nend\n",
        "/tmp/ipykernel/7.py:1: UserWarning\nsite-packages/a.py:1: UserWarning\n",
        "a figure",
        "after\n",
    ]
    assert cell.metadata == {"tags": ["shown"]}
    assert cell.source == "print()"


def test_settled_notebooks_are_valid_and_settling_twice_changes_nothing():
    once = settled(noisy("10:00", ["a\n"], 1))
    nbformat.validate(once)
    text = nbformat.writes(once)
    assert nbformat.writes(settled(once)) == text
    assert once.metadata.kernelspec.name == "python3"


# --- a cell that fails -------------------------------------------------------------------------------------------


def test_a_failing_notebook_leaves_the_report_and_names_its_copy(project, settings):
    write(project.root, "01_small", "print('fine')")
    execute(project, settings, "01_small", "demo")
    before = report(project, "01_small").read_bytes()
    write(project.root, "01_small", "1 / 0", "print('never')")
    with pytest.raises(NotebookError, match="ZeroDivisionError"):
        execute(project, settings, "01_small", "demo")
    assert report(project, "01_small").read_bytes() == before
    failed = nbformat.read(project.runs / "failed" / "demo-01_small.ipynb", as_version=4)
    assert [output.ename for output in outputs_of(failed)] == ["ZeroDivisionError"]


def run(project, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "mmrec", "run", *arguments],
        cwd=project.root,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_ends_with_1_and_a_message_that_names_the_error(project):
    write(project.root, "01_small", "raise ValueError('no such thing')")
    ended = run(project, "01_small", "demo")
    assert ended.returncode == 1
    assert "01_small on demo: ValueError: no such thing\nThe notebook as far as it came" in ended.stderr
    assert "Traceback" not in ended.stderr.split("01_small on demo")[-1]
    assert not report(project, "01_small").exists()


def test_an_unknown_notebook_is_refused_by_name(project, settings):
    write(project.root, "01_small")
    with pytest.raises(NotebookError, match=r"no notebook '01_smoll'; one of \['01_small'\]"):
        execute(project, settings, "01_smoll", "demo")


def test_an_unknown_data_set_is_refused_by_name(project):
    write(project.root, "01_small")
    ended = run(project, "01_small", "dimo")
    assert ended.returncode == 1
    assert ended.stderr.startswith("params.yaml has no data set 'dimo'; one of ") and ended.stderr.count("\n") == 1


def test_wrong_params_are_refused_in_one_line(project):
    (project.root / "params.yaml").write_text("seeds: [")
    assert run(project, "01_small", "demo").stderr.count("\n") == 1


# --- progress ----------------------------------------------------------------------------------------------------


def test_progress_goes_to_the_terminal_and_not_into_the_notebook(project, settings, capfd):
    write(project.root, "01_small", "from mmrec.progress import report\nreport('halfway there')\nprint('done')")
    os.environ["PYTHONPATH"] = str(ROOT)
    execute(project, settings, "01_small", "demo")
    assert "halfway there\n" in capfd.readouterr().err
    shown = nbformat.read(report(project, "01_small"), as_version=4)
    assert [output.text for output in outputs_of(shown)] == ["done\n"]


def test_a_kernel_that_dies_ends_in_one_line(project):
    write(project.root, "01_small", "import os; os._exit(1)")
    ended = run(project, "01_small", "demo")
    assert ended.returncode == 1
    last = ended.stderr.strip().splitlines()[-1]
    assert last.startswith("01_small on demo: the kernel died, most often for want of memory; nothing finished is lost")
    assert "Traceback" not in ended.stderr
