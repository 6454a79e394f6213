"""The best items for users of a data set, or for histories that training never saw.

    python -m mmrec recommend DATASET --out recs.parquet
    Recommender.load("demo", "maf").recommend({"me": ["i012", "i345"]}, k=5)

A model that scores items by their content recommends items of the catalogue that nobody bought, too.

This is use, not evaluation: a user's history holds everything that the user bought, held-out items too. Items are
ordered by score; of equal scores the lower number comes first, which is the order of ids. Evaluation counts ties
against an item: its rank there (`full_unseen`; with `include_seen` `full_all`) is the last rank of its tie here.

Letters: B batch, T time, V items, K recommendations, R histories without one of their items.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
import torch.nn.functional as F
from pyarrow.csv import CSVWriter
from pyarrow.parquet import ParquetWriter
from torch import Tensor

from mmrec import config, runtime
from mmrec.config import stages
from mmrec.data.batches import questions
from mmrec.data.cleaning.rows import Rows, must_exist, read_csv
from mmrec.data.cleaning.times import timed
from mmrec.data.preprocessing import read_ids
from mmrec.data.sequences import Sequences
from mmrec.evaluation import BATCH
from mmrec.experiments import build, engine, grid, inputs, unbought
from mmrec.features import FeatureError
from mmrec.files import atomic
from mmrec.models.next_item import left_align
from mmrec.progress import Progress, report

SCORE_BYTES = {"cpu": 6 * 2**20, "cuda": 256 * 2**20}  # of a batch; a CPU's cache holds it between product and top-k
BLOCK = 2**14  # users whose recommendations are held at once
REASONS = 3  # items of a history that explain a recommendation
NOISE = 1e-5  # a smaller share of a score may come from the order of additions

Histories = Mapping[str, Sequence[str]] | pd.DataFrame
Pair = tuple[Tensor, Tensor]


class RecommendError(ValueError):
    """A request that cannot be answered. The message is one line: the fault and the remedy."""


class Recommender:
    """Recommendations by an experiment with one seed (None: the data set's first).

    Args:
        bought_only: leave out items of the catalogue that too few users bought, see `unbought.admit`.

    Raises:
        ConfigError: no such data set, experiment or seed. RecommendError: the data set is not prepared.
    """

    def __init__(
        self,
        paths: config.Paths,
        settings: config.Config,
        dataset: str,
        name: str,
        seed: int | None = None,
        bought_only: bool = False,
    ):
        self.paths, self.settings, self.experiment = paths, settings, settings.experiment(dataset, name)
        seeds, self.max_length = settings.seeds_of(dataset), settings.protocol_of(dataset).max_length
        self.seed = seeds[0] if seed is None else seed
        if self.seed not in seeds:  # its run would enter the archive
            raise config.ConfigError(f"data set {dataset} has no seed {seed}; one of {list(seeds)}")
        device, folder = runtime.prepare(settings.runtime_of(dataset)), paths.processed(dataset)
        try:
            self.user_ids = pd.Index(read_ids(folder / "users.parquet"))
            self.item_ids = pd.Index(read_ids(folder / "items.parquet"))
            catalogue = pd.read_parquet(paths.interim(dataset) / "items.parquet")
            self.data = engine.data_once(folder, settings.datasets[dataset].modalities, device)
        except (OSError, FeatureError, inputs.StaleFeatures) as error:
            line = " ".join(str(error).split())
            raise RecommendError(f"{dataset} is not prepared ({line}): run `dvc repro features@{dataset}`") from error
        if stages.outdated(paths, settings, dataset, "prepare"):
            report(f"params.yaml has changed since {dataset} was prepared: `dvc repro results@{dataset}` brings it up")
        outside = catalogue[~catalogue["item_id"].isin(self.item_ids)]
        self.bought_only = bought_only
        asked = outside[:0] if bought_only else outside
        self.data, admitted = unbought.admit(paths, settings, self.experiment, self.data, asked)
        self.item_ids = self.item_ids.append(pd.Index(admitted))
        self.titles = catalogue.set_index("item_id")["title"].reindex(self.item_ids).fillna("").array
        self.unbought = pd.Index(outside["item_id"]).difference(admitted)
        self.rows = min(BATCH, max(1, SCORE_BYTES[device.type] // (4 * len(self.item_ids))))

    @classmethod
    def load(cls, dataset: str, experiment: str = "maf", seed: int | None = None) -> "Recommender":
        """A recommender of the project around the working directory."""
        return cls(*config.project(), dataset, experiment, seed)

    @cached_property
    def small_users(self) -> pd.Index:
        """Users of the data set whom `user_core` and `item_core` left out."""
        bought = pd.read_parquet(
            self.paths.interim(self.experiment.dataset) / "interactions.parquet", columns=["user_id"]
        )
        return pd.Index(bought["user_id"].unique()).difference(self.user_ids)

    @cached_property
    def model(self) -> build.Recommender:
        """The trained model. Missing weights are trained first."""
        one = self.experiment
        if len(self.unbought):
            why = f"and {one.name} does not score by content"
            if unbought.scores_by_content(one):
                why = "as asked for" if self.bought_only else "and they have no content to score"
            left_out = f"{len(self.unbought):,} items of the catalogue are not recommended"
            report(f"{one.dataset}: {left_out}: too few users bought them, {why}")
        if isinstance(one.model, config.UNTRAINED):
            return build.build(one.model, inputs.shown_to(one, self.data, self.seed), self.max_length)
        return grid.trained_models(self.paths, self.settings, one.dataset, one.name, self.data, [self.seed])[0]

    def history(self, user: str) -> list[str]:
        """Items that a user of the data set bought, oldest first."""
        number = self._numbers("users", pd.Series([user]), self.user_ids)[0]
        begin, end = self.data.sequences.offsets[number : number + 2].tolist()
        return self.item_ids[self.data.sequences.items[begin:end].cpu().numpy() - 1].tolist()

    def recommend(self, histories: Histories | None = None, k: int = 10, **options) -> pd.DataFrame:
        """The best k items of each user, as one table; see `blocks`."""
        return pd.concat(self.blocks(histories, k, **options), ignore_index=True)

    def blocks(
        self,
        histories: Histories | None = None,
        k: int = 10,
        *,
        users: Iterable[str] | None = None,
        include_seen: bool = False,
        explain: bool = False,
    ) -> Iterator[pd.DataFrame]:
        """The best k items of each user, in tables of at most `BLOCK` users.

        Args:
            histories: user -> items, oldest first; or a table of user_id, item_id and perhaps timestamp, else in order.
                None: those of the data set's users. Unknown items are left out and counted.
            users: of the data set. None: all.
            include_seen: recommend items of the history, too.
            explain: add because_1..3 (item ids; "": none) and fall_1..3 (float32; NaN: none), see `reasons`.

        Yields:
            user, rank (int64), item_id, score (float32), title ("": none), users in the order of the request. A user
            has fewer than k rows where fewer items are left.

        Raises:
            RecommendError: k is below 1, both users and histories, no known user or item, or a score is NaN.
        """
        if k < 1:
            raise RecommendError(f"{k} recommendations for each user: ask for 1 or more")
        if users is not None and histories is not None:
            raise RecommendError("users of the data set and given histories: ask for one of the two")
        names, sequences, asked = self._of_users(users) if histories is None else self._of_table(histories)
        sequences = replace(sequences, items=F.pad(sequences.items, (0, 1)))
        model, progress = self.model, Progress(f"recommend {self.experiment.dataset}", len(asked))
        for block in asked.split(BLOCK):
            # A target behind the last item: the history before it is whole.
            target = torch.full_like(sequences.test, -1).index_put_((block,), sequences.offsets[block + 1])
            answers = []
            for question in questions(replace(sequences, test=target), "test", self.max_length, self.rows):
                scores = model.score(question.items, question.lengths)
                if not include_seen:  # not in place: popularity gives a view of its counts
                    scores = scores.index_put((question.seen_row, question.seen - 1), scores.new_tensor(-torch.inf))
                values, columns = best(scores, k)
                more = reasons(model, question.items, values, columns, self.rows) if explain else ()
                answers.append((question.users, values, columns, *more))
                progress.advance(len(question.users))
            numbers, *parts = (torch.cat(part).cpu().numpy() for part in zip(*answers, strict=True))
            order = pd.Index(numbers).get_indexer(block.tolist())
            yield self._table(names[numbers[order]], *(part[order] for part in parts))

    def _of_users(self, users: Iterable[str] | None) -> tuple[pd.Index, Sequences, Tensor]:
        """Ids of users, their sequences, and the numbers of the users that are asked for."""
        if users is None and len(self.small_users):
            all_users = len(self.small_users) + len(self.user_ids)
            why = "too few interactions for user_core and item_core"
            report(
                f"{len(self.small_users):,} of {all_users:,} users are left out: {why}; --histories answers for them"
            )
        asked = pd.Series(self.user_ids if users is None else list(users), dtype=object)
        numbers = pd.unique(self._numbers("users", asked, self.user_ids))
        sequences = self.data.sequences
        return self.user_ids, sequences, torch.from_numpy(numbers[numbers >= 0]).to(sequences.items.device)

    def _of_table(self, histories: Histories) -> tuple[pd.Index, Sequences, Tensor]:
        """As `_of_users`, of given histories."""
        if isinstance(histories, Mapping):
            pairs = [(user, item) for user, items in histories.items() for item in items]
            histories = pd.DataFrame(pairs, columns=["user_id", "item_id"])
        items = self._numbers("items", histories["item_id"], self.item_ids)
        user, names = pd.factorize(histories["user_id"].astype(str))
        kept = np.flatnonzero((items >= 0) & (user >= 0))
        times = histories["timestamp"].to_numpy()[kept] if "timestamp" in histories else kept
        kept = kept[np.lexsort((times, user[kept]))]
        lengths = np.bincount(user[kept], minlength=len(names))
        if lost := int((lengths == 0).sum()):
            report(f"{lost:,} of {len(names):,} users are left out: none of their items is known")
        offsets = np.concatenate([[0], lengths.cumsum()])
        unused = offsets[:-1]  # ends of training, held-out items, negatives
        tensors = map(torch.from_numpy, (items[kept] + 1, offsets, unused, unused, unused, unused[:, None]))
        sequences = Sequences(*tensors, n_items=len(self.item_ids)).to(self.data.sequences.items.device)
        return pd.Index(names), sequences, sequences.offsets.diff().nonzero().squeeze(1)

    def _numbers(self, what: str, asked: pd.Series, known: pd.Index) -> np.ndarray:
        """Position of each id among the known ones; -1: unknown. Unknown ids are reported."""
        asked, dataset = asked.astype(str), self.experiment.dataset
        numbers = known.get_indexer(asked)
        unknown = asked[numbers < 0]
        small = self.small_users if what == "users" else self.unbought
        few = int(unknown.isin(small).sum()) if len(unknown) else 0
        if few and few == len(asked):
            mend = "give users' histories with --histories" if what == "users" else "lower item_core in params.yaml"
            raise RecommendError(f"{dataset}: the {what} asked for have too few interactions: {mend}")
        if len(unknown) == len(asked):
            ids = f"{asked.iloc[0]!r} here, {known[0]!r} there" if len(asked) else "there are none"
            raise RecommendError(f"no id of the {what} is one of {dataset} ({ids}): write ids as text, as in its files")
        if len(unknown):
            why = f"; {few:,} of these have too few interactions" if few else ""
            report(f"{len(unknown):,} of {len(asked):,} {what} are unknown ({unknown.iloc[0]!r}) and left out{why}")
        return numbers

    def _table(self, users: pd.Index, values, columns, because=None, falls=None) -> pd.DataFrame:
        row, place = (values > -np.inf).nonzero()
        item = columns[row, place]
        table = {"user": users[row], "rank": place + 1, "item_id": self.item_ids[item]}
        table |= {"score": values[row, place], "title": self.titles[item]}
        for number in range(0 if because is None else REASONS):
            reason = because[row, place, number]
            table[f"because_{number + 1}"] = self.item_ids[reason - 1].where(reason > 0, "")
            table[f"fall_{number + 1}"] = falls[row, place, number]
        return pd.DataFrame(table)


def best(scores: Tensor, k: int) -> Pair:
    """The highest scores (B, V) of each row and their columns, both (B, min(k, V)); of equal ones the lower column.

    torch's top-k takes any of equal scores. Rows whose k-th score equals the next one are chosen again.

    Raises:
        RecommendError: a score is NaN.
    """
    width = scores.shape[1]
    k = min(k, width)
    values, columns = scores.topk(min(k + 1, width))
    if values.isnan().any():  # top-k takes NaN for the largest
        raise RecommendError("a score is NaN: the model has diverged or its input is broken")
    cut, columns = values[:, k - 1 : k], columns[:, :k]
    if (tied := (values[:, k:] == cut).any(1)).any():
        scored, cut = scores[tied], cut[tied]
        early = torch.arange(width, 0.0, -1, device=scores.device)  # float32 is exact up to 16 million items
        columns[tied] = early.where(scored == cut, 0).masked_fill(scored > cut, width + 1).topk(k).indices
    columns = columns.sort().values
    values, order = scores.gather(1, columns).sort(descending=True, stable=True)
    return values, columns.gather(1, order)


def reasons(model: build.Recommender, items: Tensor, values: Tensor, columns: Tensor, rows: int) -> Pair:
    """Occlusion: the items of each history without which the score of a recommended item falls most.

    The model scores each history (B, T) again without each of its items, `rows` at once. A repeated item is taken out
    everywhere. A history of one item has no score without it.

    Args:
        values, columns: (B, K), see `best`.

    Returns:
        Item numbers (B, K, 3), 0: no further item lowers the score; falls (B, K, 3), NaN: none.
    """
    every_row, every_place = items.nonzero(as_tuple=True)
    falls = values.new_zeros(*values.shape, max(items.shape[1], REASONS))
    for row, place in zip(every_row.split(rows), every_place.split(rows), strict=True):
        same = items[row] == items[row, place, None]  # (R, T)
        left = items[row].masked_fill(same, 0)
        lengths = (left > 0).sum(1)
        asked = (lengths > 0) & (same.byte().argmax(1) == place)  # once for a repeated item
        if asked.any():
            row, place = row[asked], place[asked]
            without = model.score(left_align(left[asked]), lengths[asked]).gather(1, columns[row])  # (R, K)
            falls[row, :, place] = values[row] - without
    fall, place = (part[..., :REASONS] for part in falls.sort(dim=2, descending=True, stable=True))
    none = fall <= NOISE * values.abs()[..., None]
    named = F.pad(items, (0, falls.shape[2] - items.shape[1]))[:, None].expand(falls.shape).gather(2, place)
    return named.masked_fill(none, 0), fall.masked_fill(none, torch.nan)


def read(path: Path, columns: list[str], timestamp_format: str | None = None, any_year: bool = False) -> pd.DataFrame:
    """Ids of a .csv or .parquet file, with `timestamp` (int64) if it has one; of a .txt file, one id a line.

    Timestamps mean the same as in the interactions of a data set, see `timed`.

    Raises:
        SourceError, RecommendError: no such file or column, another kind of file, or a time that is no time.
    """
    must_exist(path)
    try:
        if path.suffix == ".csv":
            table = read_csv(path, columns, ["timestamp"]).frame
        elif path.suffix == ".parquet":
            table = pd.read_parquet(path)
        elif path.suffix == ".txt" and len(columns) == 1:
            table = pd.DataFrame({columns[0]: list(filter(None, path.read_text("utf-8-sig").splitlines()))}, dtype=str)
        else:
            raise RecommendError(f"{path.name}: name a .csv or .parquet file with {', '.join(columns)}")
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise RecommendError(f"{path.name} cannot be read: {' '.join(str(error).split())}") from error
    if lacking := [name for name in columns if name not in table]:
        raise RecommendError(f"{path.name}: no column {lacking[0]!r}; it has {', '.join(map(str, table))}")
    table = table.assign(**{name: table[name].astype(str).str.strip() for name in columns})
    if "timestamp" in table:
        line = table.get("line", np.arange(1, len(table) + 1))
        rows = Rows(path.name, table.assign(timestamp=table["timestamp"].astype(str), line=line))
        table = timed(rows, timestamp_format, any_year)[0].frame
        if wrong := int((table["timestamp"] == 0).sum()):
            raise RecommendError(f"{path.name}: {wrong:,} times cannot be read: mend or omit them")
    return table


def write(tables: Iterator[pd.DataFrame], out: Path) -> int:
    """Write tables as one .parquet or .csv file, whole or not at all, and return the number of rows.

    Raises:
        RecommendError: the file cannot be written.
    """
    count, first = 0, next(tables)
    schema, kind = pa.Schema.from_pandas(first, preserve_index=False), {".parquet": ParquetWriter, ".csv": CSVWriter}
    try:
        with atomic(out) as path, path.open("wb") as file, kind[out.suffix](file, schema) as writer:
            for table in chain([first], tables):
                writer.write_table(pa.Table.from_pandas(table, schema, preserve_index=False))
                count += len(table)
    except OSError as error:
        raise RecommendError(f"{out} cannot be written: {error.strerror or error}") from error
    return count
