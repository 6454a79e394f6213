"""The command line: `python -m mmrec --help`."""

import argparse
import errno
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from mmrec import config, runtime
from mmrec.config import stages
from mmrec.config.__main__ import show


def main(arguments: list[str] | None = None) -> None:
    """Run a command. A known error ends it with status 1 and one line."""
    parser = argparse.ArgumentParser(prog="python -m mmrec", description="A replication of arXiv 2405.17959.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = _adder(commands)
    command("available", _available, "list the data sets whose raw files are there, or can be made or fetched")
    command("settings", _settings, "write the settings of every stage to data/settings/, which DVC compares")
    command("stages", _stages, "list the stages that end in tables, for all available data sets")
    fetched = command("fetch", _fetch, "make or fetch the raw files of a data set, or check that a person placed them")
    fetched.add_argument("dataset", metavar="DATASET")
    run = command("run", _run, "execute a notebook as a stage of the pipeline")
    run.add_argument("notebook", metavar="NOTEBOOK", help="a file in notebooks/, without .ipynb")
    run.add_argument("dataset", metavar="DATASET", nargs="?", default="", help="none: all data sets together")
    command("text", _text, "write the numbers of README.md and docs/ anew from the committed tables")
    _of_recommend(
        command("recommend", _recommend, "write the best items for each user of a data set, or for given histories")
    )
    told = command("config", _config, "show every setting of a data set or experiment, and its layer")
    told.add_argument("show", choices=["show"])
    told.add_argument("dataset", metavar="DATASET")
    told.add_argument("experiment", metavar="EXPERIMENT", nargs="?")
    chosen = parser.parse_args(arguments)
    try:
        chosen.do(chosen)
    except KeyboardInterrupt:
        print("stopped; nothing finished is lost, and the same command goes on from here", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if os.environ.get("MMREC_DEBUG") == "1":
            raise
        # Imported late, here and in commands: `settings` runs after each edit of params.yaml and needs neither.
        from mmrec.data.sources import SourceError
        from mmrec.recommend import RecommendError
        from mmrec.report.notebook import NotebookError

        if isinstance(error, (config.ConfigError, SourceError, NotebookError, RecommendError)):
            sys.exit(str(error))
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            sys.exit("the disk is full: make room, then run the same command again; nothing finished is lost")
        line = (str(error) or "no message").splitlines()[0]
        sys.exit(f"{type(error).__name__}: {line} (MMREC_DEBUG=1 shows where)")


def _adder(commands: argparse._SubParsersAction) -> Callable[..., argparse.ArgumentParser]:
    def add(name: str, do: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        parser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        parser.set_defaults(do=do)
        return parser

    return add


def _config(chosen: argparse.Namespace) -> None:
    _, settings = config.project()
    print(show(settings, chosen.dataset, chosen.experiment))


def _settings(_: argparse.Namespace) -> None:
    stages.write(*config.project())


def _fetch(chosen: argparse.Namespace) -> None:
    from mmrec.data.sources import fetch

    paths, settings = config.project()
    settings.check_known(chosen.dataset)
    folders = paths.raw(chosen.dataset), paths.downloads(chosen.dataset)
    fetch(settings.datasets[chosen.dataset].source, *folders, paths.checksums)


def _can_be_had(paths: config.Paths, settings: config.Config) -> Iterator[str]:
    """Data sets with raw files that are there or can be had; stderr gets a line for each other one."""
    from mmrec.data.sources import obstacle

    for name, about in settings.datasets.items():
        if reason := obstacle(about.source, paths.raw(name), paths.downloads(name)):
            print(f"{name} is left out: {reason}", file=sys.stderr)
        else:
            yield name


def _available(_: argparse.Namespace) -> None:
    print(*_can_be_had(*config.project()), sep="\n")


def _stages(_: argparse.Namespace) -> None:
    paths, settings = config.project()
    for name in _can_be_had(paths, settings):
        print(*stages.targets(paths, settings, name), sep="\n")


def _run(chosen: argparse.Namespace) -> None:
    from mmrec.report import notebook

    paths, settings = config.project()
    if chosen.dataset:
        settings.check_known(chosen.dataset)
    notebook.execute(paths, settings, chosen.notebook, chosen.dataset)


def _text(_: argparse.Namespace) -> None:
    from mmrec.report import generated

    generated.fill(*config.project())


def _of_recommend(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("dataset", metavar="DATASET")
    add("--experiment", default="maf", help="whose model; maf unless said otherwise")
    add("--seed", type=int, help="of its run; the data set's first unless said otherwise")
    add("--top", type=int, default=10, metavar="K", help="items for each user; 10 unless said otherwise")
    histories = parser.add_mutually_exclusive_group()
    histories.add_argument("--users", type=Path, metavar="FILE", help="one id a line (.txt), or a column user_id")
    histories.add_argument("--histories", type=Path, metavar="FILE", help="user_id, item_id, perhaps timestamp")
    add("--include-seen", action="store_true", help="recommend items of the history, too")
    add("--bought-only", action="store_true", help="leave out items that too few users bought, and do not encode them")
    add("--explain", action="store_true", help="name the items of the history that count most for each recommendation")
    add("--out", type=Path, required=True, metavar="FILE", help="a .parquet or .csv file")


def _recommend(chosen: argparse.Namespace) -> None:
    if chosen.out.suffix not in (".parquet", ".csv") or chosen.out.is_dir():
        raise config.ConfigError(f"--out {chosen.out}: name a .parquet or .csv file")
    paths, settings = config.project()
    settings.check_known(chosen.dataset)
    runtime.enter(settings.runtime_of(chosen.dataset))  # before torch is loaded
    from mmrec import recommend
    from mmrec.data.sources import times_of

    users = chosen.users and recommend.read(chosen.users, ["user_id"])["user_id"]
    meaning = times_of(settings.datasets[chosen.dataset].source)
    histories = chosen.histories and recommend.read(chosen.histories, ["user_id", "item_id"], *meaning)
    asked = (chosen.dataset, chosen.experiment, chosen.seed, chosen.bought_only)
    recommender = recommend.Recommender(paths, settings, *asked)
    _compare(paths, chosen)
    options = {"users": users, "include_seen": chosen.include_seen, "explain": chosen.explain}
    count = recommend.write(recommender.blocks(histories, chosen.top, **options), chosen.out)
    print(f"{chosen.out}: {count:,} recommendations")


def _compare(paths: config.Paths, chosen: argparse.Namespace) -> None:
    """Name the experiment that validation prefers to the chosen one, if there are results."""
    import pandas as pd

    from mmrec.progress import report
    from mmrec.report.generated import preferred

    if (table := paths.table(chosen.dataset, "results")).exists():
        ndcg = preferred(pd.read_csv(table))
        if ndcg.get(chosen.experiment, ndcg.max()) < ndcg.max():
            gap = f"NDCG@10 {ndcg.max():.4f}, {chosen.experiment} {ndcg[chosen.experiment]:.4f}"
            report(f"{chosen.dataset}: on validation {ndcg.idxmax()} is best ({gap}): --experiment {ndcg.idxmax()}")


if __name__ == "__main__":
    main()
