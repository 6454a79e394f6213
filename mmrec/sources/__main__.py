"""`python -m mmrec.sources fetch DATASET` makes or fetches raw files; `... available` lists what can be run here."""

import argparse
import sys

from mmrec import config
from mmrec.sources import SourceError, fetch, obstacle


def main(arguments: list[str] | None = None) -> None:
    """Ends with 1 and one line where something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m mmrec.sources", description="Raw files of a data set.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("fetch", help="make them in data/raw/DATASET").add_argument("dataset", metavar="DATASET")
    commands.add_parser("available", help="data sets whose raw files are there, or can be made or fetched")
    chosen = parser.parse_args(arguments)
    try:
        paths, settings = config.project()
        if chosen.command == "available":
            _list_available(settings, paths)
            return
        if chosen.dataset not in settings.datasets:
            known = ", ".join(settings.datasets)
            raise config.ConfigError(f"params.yaml has no data set {chosen.dataset!r}; one of {known}")
        folders = paths.raw(chosen.dataset), paths.downloads(chosen.dataset)
        fetch(settings.datasets[chosen.dataset].source, *folders, paths.checksums)
    except (config.ConfigError, SourceError) as error:
        sys.exit(str(error))


def _list_available(settings: config.Config, paths: config.Paths) -> None:
    """Names to stdout; to stderr, a line for each data set that is left out."""
    for name, about in settings.datasets.items():
        if reason := obstacle(about.source, paths.raw(name), paths.downloads(name)):
            print(f"{name} is left out: {reason}", file=sys.stderr)
        else:
            print(name)


if __name__ == "__main__":
    main()
