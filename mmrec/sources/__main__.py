"""`python -m mmrec.sources fetch DATASET`: make or fetch the raw files of a data set of params.yaml."""

import argparse
import sys

from mmrec import config
from mmrec.sources import SourceError, fetch


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m mmrec.sources", description="Raw files of a data set.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("fetch", help="make them in data/raw/DATASET").add_argument("dataset", metavar="DATASET")
    dataset = parser.parse_args(arguments).dataset
    try:
        paths = config.Paths.find()
        datasets = config.load(paths.root / "params.yaml").datasets
        if dataset not in datasets:
            raise config.ConfigError(f"params.yaml has no data set {dataset!r}; one of {', '.join(datasets)}")
        fetch(datasets[dataset].source, paths.raw(dataset))
    except (config.ConfigError, SourceError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
