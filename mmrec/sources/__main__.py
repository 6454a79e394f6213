"""`python -m mmrec.sources fetch DATASET` makes raw files; `... available` lists the data sets that can be run here."""

import argparse
import sys

from mmrec import config
from mmrec.sources import SourceError, fetch


def main(arguments: list[str] | None = None) -> None:
    """Ends with 1 and one line where something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m mmrec.sources", description="Raw files of a data set.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("fetch", help="make them in data/raw/DATASET").add_argument("dataset", metavar="DATASET")
    commands.add_parser("available", help="data sets whose raw files are there or can be made")
    chosen = parser.parse_args(arguments)
    try:
        paths, settings = config.project()
        if chosen.command == "available":
            print("\n".join(name for name in settings.datasets if _available(settings, paths, name)))
            return
        if chosen.dataset not in settings.datasets:
            known = ", ".join(settings.datasets)
            raise config.ConfigError(f"params.yaml has no data set {chosen.dataset!r}; one of {known}")
        fetch(settings.datasets[chosen.dataset].source, paths.raw(chosen.dataset))
    except (config.ConfigError, SourceError) as error:
        sys.exit(str(error))


def _available(settings: config.Config, paths: config.Paths, name: str) -> bool:
    return isinstance(settings.datasets[name].source, config.DemoSource) or paths.raw(name).exists()


if __name__ == "__main__":
    main()
