"""Where raw files came from: references/provenance.yaml."""

from pathlib import Path

from ruamel.yaml import YAML

from mmrec.config.types import DatasetName, section, validate
from mmrec.files import sha256


@section
class Provenance:
    """What is known of a data set's raw files."""

    source: str
    rebuilt: str  # by others, before we read them
    shown: str  # what may be
    files: dict[str, str]  # path in data/raw/<dataset> -> SHA-256


def load(path: Path) -> dict[str, Provenance]:
    """Read provenance.yaml: data set -> `Provenance`. A ConfigError names a wrong key."""
    return validate(dict[DatasetName, Provenance], YAML(typ="safe").load(path), path.name)


def told(known: Provenance | None, raw: Path) -> str:
    """Provenance as lines, and whether the files in `raw` are those of the record."""
    if known is None:
        return "references/provenance.yaml does not know these files"
    lines = [f"{name}: {getattr(known, name)}" for name in ("source", "rebuilt", "shown")]
    for name, digest in known.files.items():
        found = sha256(raw / name) if (raw / name).is_file() else "missing"
        lines.append(f"{name}: SHA-256 {found}, " + ("as recorded" if found == digest else f"recorded is {digest}"))
    return "\n".join(lines)
