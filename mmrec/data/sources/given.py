"""Features that come with the raw files: features/<modality>.parquet, columns item_id (string) and vector (floats).

An item without a row lacks the modality. In params.yaml the encoder of such a modality is `given`.
"""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mmrec.config.datasets import GIVEN
from mmrec.data.cleaning.rows import SourceError, must_exist
from mmrec.files import atomic

__all__ = ["GIVEN", "keep", "path_of", "read", "save"]


def path_of(folder: Path, modality: str) -> Path:
    """The file of a modality in the folder of the raw files."""
    return folder / "features" / f"{modality}.parquet"


def keep(folder: Path, replacement: Path) -> None:
    """Copy given features into the folder that replaces a folder of raw files."""
    if (folder / "features").is_dir():
        shutil.copytree(folder / "features", replacement / "features")


def read(path: Path, items: pd.Index | None = None) -> tuple[pd.Index, np.ndarray]:
    """Ids of the rows, and their vectors (rows, F) float32. `items` are the ids of the data set, if known.

    Raises SourceError: no such file, not Parquet, no row of any item, or what `_checked` refuses.
    """
    must_exist(path)
    try:
        table = pq.read_table(path, columns=["item_id", "vector"])
    except (pa.ArrowException, OSError) as error:
        reason, mend = " ".join(str(error).split()), "write a parquet file with the columns item_id and vector"
        raise SourceError(f"{path.name} cannot be read ({reason}): {mend}") from error
    index, matrix = _checked(table, path)
    if items is not None and not index.isin(items).any():
        pair = f"{index[0]!r} there, {items[0]!r} in the data"
        raise SourceError(f"{path.name}: no item_id is one of the data set's ({pair})")
    return index, matrix


def _checked(table: pa.Table, path: Path) -> tuple[pd.Index, np.ndarray]:
    """Ids and vectors of a table. Raises SourceError: a type, width, number or id is wrong, or there is no row."""
    ids, vectors = table["item_id"].combine_chunks(), table["vector"].combine_chunks()
    if not (pa.types.is_string(ids.type) or pa.types.is_large_string(ids.type)):
        raise SourceError(f"{path.name}: item_id is {ids.type}, not string: write ids as text, as in items.csv")
    kind = vectors.type
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not lists or not pa.types.is_floating(kind.value_type):
        raise SourceError(f"{path.name}: vector is {kind}, not a list of floats")
    for column, values in (("item_id", ids), ("vector", vectors)):
        if values.null_count:
            row = 1 + pc.index(pc.is_null(values), True).as_py()
            raise SourceError(f"{path.name}, row {row}: no {column}; an item without a vector has no row")
    index = pd.Index(ids.to_pandas())
    if index.has_duplicates:
        again = int(index.duplicated().argmax())
        raise SourceError(f"{path.name}, row {again + 1}: {index[again]!r} stands there twice")
    widths = pc.list_value_length(vectors).to_numpy(zero_copy_only=False)
    if len(widths) and (widths != widths[0]).any():
        row = int((widths != widths[0]).argmax())
        found = f"{widths[row]} numbers, {widths[0]} in row 1"
        raise SourceError(f"{path.name}, row {row + 1}: {found}; all have one width")
    if not len(index):
        raise SourceError(f"{path.name}: there is no row")
    numbers = vectors.flatten().cast(pa.float32(), safe=False).to_numpy(zero_copy_only=False)
    matrix = numbers.reshape(len(index), -1)
    if matrix.shape[1] == 0:
        raise SourceError(f"{path.name}: its vectors are empty")
    if (wrong := ~np.isfinite(matrix)).any():
        row, column = np.argwhere(wrong)[0]
        raise SourceError(f"{path.name}, row {row + 1}: number {column + 1} is {matrix[row, column]}, not finite")
    return index, matrix


def save(frame: pd.DataFrame, path: Path | str) -> None:
    """Write embeddings as such a file, whole or not at all.

    Args:
        frame: a row an item. Columns item_id and vector (lists or arrays), or the ids as index and a column a number.

    Raises SourceError: the frame cannot be such a file; the message names the row.
    """
    path = Path(path)
    named = {"item_id", "vector"} <= set(frame)
    try:
        ids = pa.array(frame["item_id"] if named else frame.index)
        rows = frame["vector"] if named else frame.to_numpy(np.float32)
        vectors = pa.array([None if row is None else np.asarray(row, np.float32) for row in rows])
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise SourceError(f"{path.name}: the frame holds no vectors of numbers ({error})") from None
    index, matrix = _checked(pa.table({"item_id": ids, "vector": vectors}), path)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), matrix.shape[1])
    with atomic(path) as partial:
        pq.write_table(pa.table({"item_id": pa.array(index, pa.string()), "vector": vectors}), partial)
