"""The command line: `python -m mmrec --help`."""

import argparse
import sys
from collections.abc import Callable

from mmrec import config
from mmrec.data.sources import SourceError, fetch, obstacle
from mmrec.report import notebook


def main(arguments: list[str] | None = None) -> None:
    """Parse, do, and end with 1 and one line where something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m mmrec", description="A replication of arXiv 2405.17959.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = _adder(commands)
    command("available", _available, "list the data sets whose raw files are there, or can be made or fetched")
    command("fetch", _fetch, "make or fetch the raw files of a data set").add_argument("dataset", metavar="DATASET")
    run = command("run", _run, "execute a notebook as a stage of the pipeline")
    run.add_argument("notebook", metavar="NOTEBOOK", help="a file in notebooks/, without .ipynb")
    run.add_argument(
        "dataset", metavar="DATASET", nargs="?", default="", help="none: the notebook is about all of them"
    )
    chosen = parser.parse_args(arguments)
    try:
        chosen.do(chosen)
    except (config.ConfigError, SourceError, notebook.NotebookError) as error:
        sys.exit(str(error))


def _adder(commands: argparse._SubParsersAction) -> Callable[..., argparse.ArgumentParser]:
    def add(name: str, do: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        parser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        parser.set_defaults(do=do)
        return parser

    return add


def _known(settings: config.Config, dataset: str) -> None:
    if dataset not in settings.datasets:
        known = ", ".join(settings.datasets)
        raise config.ConfigError(f"params.yaml has no data set {dataset!r}; one of {known}")


def _fetch(chosen: argparse.Namespace) -> None:
    paths, settings = config.project()
    _known(settings, chosen.dataset)
    folders = paths.raw(chosen.dataset), paths.downloads(chosen.dataset)
    fetch(settings.datasets[chosen.dataset].source, *folders, paths.checksums)


def _available(_: argparse.Namespace) -> None:
    """Names to stdout; to stderr, a line for each data set that is left out."""
    paths, settings = config.project()
    for name, about in settings.datasets.items():
        if reason := obstacle(about.source, paths.raw(name), paths.downloads(name)):
            print(f"{name} is left out: {reason}", file=sys.stderr)
        else:
            print(name)


def _run(chosen: argparse.Namespace) -> None:
    paths, settings = config.project()
    if chosen.dataset:
        _known(settings, chosen.dataset)
    notebook.execute(paths, settings, chosen.notebook, chosen.dataset)


if __name__ == "__main__":
    main()
