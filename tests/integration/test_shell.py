"""The user's shell does not reach the reports: each variable leaves the bytes of an executed notebook as they are."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell, new_notebook, writes

from mmrec import config

ROOT = Path(__file__).parents[2]
CELLS = (
    "print('é', open('data.txt').read())",
    "import warnings\nwarnings.warn('careful')",
    "import pandas as pd\npd.DataFrame({'title': ['Ca$$h']})",
    "import matplotlib.pyplot as plt\nfrom mmrec.report import figures\nfigures.presence({'image': 0.5})\nplt.show()",
)
OWN = {  # files of a user: all of them would change or end a notebook
    "matplotlibrc": "font.size: 30\n",
    ".config/matplotlib/matplotlibrc": "font.size: 30\n",
    "profile_default/startup/00.py": "print('hello')\n",
    ".ipython/profile_default/startup/00.py": "print('hello')\n",
    "kernels/python3/kernel.json": json.dumps({"argv": ["false"], "display_name": "R", "language": "R"}),
    ".local/share/jupyter/kernels/python3/kernel.json": json.dumps({"argv": ["false"], "display_name": "R"}),
    "ipython_kernel_config.py": "c.InlineBackend.figure_formats = {'svg'}\n",
    "jupyter_config.py": "c.MappingKernelManager.default_kernel_name = 'R'\n",
}
SHELLS = {
    "matplotlib": {"MPLBACKEND": "Agg", "MATPLOTLIBRC": "{own}"},
    "matplotlib's folder": {"MPLCONFIGDIR": "{own}"},
    "Jupyter": dict.fromkeys(("IPYTHONDIR", "JUPYTER_PATH", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR"), "{own}"),
    "HOME with settings": {"HOME": "{own}", "JUPYTER_PREFER_ENV_PATH": "0"},
    "HOME not writable": {"HOME": "/proc/none"},
    "locale": {"LANG": "C", "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
    "Python's warnings": {"PYTHONWARNINGS": "ignore"},
}
SAID = {"HOME not writable": "mkdir -p failed for path .*\nMatplotlib created a temporary cache directory .*\n"}


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> config.Paths:
    root = tmp_path_factory.mktemp("project")
    (root / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    (root / "notebooks").mkdir()
    (root / "data.txt").write_text("é")
    spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    cells = [new_code_cell("dataset = ''", metadata={"tags": ["parameters"]}), *map(new_code_cell, CELLS)]
    (root / "notebooks" / "small.ipynb").write_text(writes(new_notebook(cells=cells, metadata={"kernelspec": spec})))
    for name, text in OWN.items():
        (root / "own" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "own" / name).write_text(text)
    return config.Paths(root, root)


def executed(project: config.Paths, variables: dict[str, str]) -> tuple[str, str]:
    """The executed notebook, and what the terminal shows."""
    ended = subprocess.run(
        [sys.executable, "-m", "mmrec", "run", "small", "demo"],
        cwd=project.root,
        env=os.environ
        | {"PYTHONPATH": str(ROOT)}
        | {k: v.format(own=project.root / "own") for k, v in variables.items()},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    return (project.reports("demo") / "small.ipynb").read_text(), ended.stderr


@pytest.fixture(scope="module")
def plain(project) -> str:
    found, said = executed(project, {})
    outputs = [len(cell.get("outputs", [])) for cell in json.loads(found)["cells"]]
    assert outputs == [0, 0, 1, 1, 1, 1] and "careful" in found and "image/png" in found and not said
    return found


@pytest.mark.slow
@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_does_not_reach_the_reports(project, plain, shell):
    found, said = executed(project, SHELLS[shell])
    assert found == plain
    assert re.fullmatch(SAID.get(shell, ""), said)
