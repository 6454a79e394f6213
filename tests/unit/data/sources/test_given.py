import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmrec import config
from mmrec.data.sources import SourceError, given, given_ids, require_modalities
from mmrec.data.sources.folder import read as read_folder

ITEMS = pd.Index(["a", "b", "c"])


@pytest.fixture
def write(tmp_path):
    def write(ids=("a", "c"), vectors=((1.0, 2.0), (3.0, 4.0)), kind=None, **columns):
        path = tmp_path / "features" / "image.parquet"
        path.parent.mkdir(exist_ok=True)
        kind = kind or pa.list_(pa.float32())
        table = {"item_id": pa.array(ids), "vector": pa.array(vectors, kind)} | columns
        pq.write_table(pa.table({name: values for name, values in table.items() if values is not None}), path)
        return path

    return write


@pytest.mark.parametrize(
    "kind",
    [pa.list_(pa.float32()), pa.list_(pa.float32(), 2), pa.large_list(pa.float64()), pa.list_(pa.float16())],
    ids=str,
)
def test_lists_of_floats_of_any_kind_are_read_as_float32(write, kind):
    vectors = np.array([[1, 2], [3, 4]], np.float16) if pa.types.is_float16(kind.value_type) else [[1, 2], [3, 4]]
    ids, matrix = given.read(write(vectors=[list(row) for row in vectors], kind=kind), ITEMS)
    assert ids.tolist() == ["a", "c"]
    assert matrix.dtype == np.float32 and matrix.tolist() == [[1, 2], [3, 4]]


def test_rows_may_stand_in_any_order_and_be_of_other_items(write):
    ids, matrix = given.read(write(ids=("z", "b")), ITEMS)
    assert ids.tolist() == ["z", "b"] and matrix.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vector": None}, r"image.parquet cannot be read \(.*vector.*\): write a parquet file with the columns"),
        ({"item_id": None}, r"image.parquet cannot be read \(.*item_id"),
        ({"ids": (1, 2)}, "image.parquet: item_id is int64, not string: write ids as text"),
        ({"vector": pa.array([1.0, 2.0])}, "vector is double, not a list of floats"),
        ({"vectors": ((1, 2), (3, 4)), "kind": pa.list_(pa.int64())}, "vector is list<.*int64>, not a list of floats"),
        ({"ids": ("a", None)}, "row 2: no item_id; an item without a vector has no row"),
        ({"vectors": (None, (1.0,))}, "row 1: no vector"),
        ({"vectors": ((1.0, None), (1.0, 2.0))}, "row 1: number 2 is nan, not finite"),
        ({"ids": ("a", "a")}, "row 2: 'a' stands there twice"),
        ({"vectors": ((1.0, 2.0), (3.0,))}, "row 2: 1 numbers, 2 in row 1; all have one width"),
        ({"vectors": ((1.0, 2.0), (3.0, float("nan")))}, "row 2: number 2 is nan, not finite"),
        ({"vectors": ((1.0, 2.0), (-float("inf"), 0.0))}, "row 2: number 1 is -inf, not finite"),
        ({"vectors": ((), ())}, "its vectors are empty"),
        ({"ids": ("001", "002")}, r"no item_id is one of the data set's \('001' there, 'a' in the data\)"),
        ({"ids": pa.array([], pa.string()), "vectors": ()}, "image.parquet: there is no row"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(write, changes, message):
    with pytest.raises(SourceError, match=message) as caught:
        given.read(write(**changes), ITEMS)
    assert "\n" not in str(caught.value)


def test_a_missing_or_damaged_file_is_named(tmp_path):
    with pytest.raises(SourceError, match=r"image.parquet is missing: place it in .*features"):
        given.read(tmp_path / "features" / "image.parquet", ITEMS)
    (tmp_path / "text.parquet").write_bytes(b"no parquet")
    with pytest.raises(SourceError, match="text.parquet cannot be read"):
        given.read(tmp_path / "text.parquet", ITEMS)


def test_a_frame_is_written_as_such_a_file(tmp_path):
    frame = pd.DataFrame([[0.5, 1.5, 2.5], [3, 4, 5]], index=["b", "a"])
    path = given.path_of(tmp_path, "text")
    given.save(frame, path)
    ids, matrix = given.read(path, ITEMS)
    assert path == tmp_path / "features" / "text.parquet"
    assert ids.tolist() == ["b", "a"] and (matrix == frame.to_numpy()).all()


def test_given_features_are_asked_for_before_sequences_are_made_and_pictures_are_not(shop, capsys):
    folder = shop()
    about = config.Dataset(title="mine", source=config.PlacedSource(kind="folder"), image="given")
    items = read_folder(folder).items["item_id"]
    require_modalities(read_folder(folder), "mine", about)
    with pytest.raises(SourceError, match="image.parquet is missing"):
        given_ids(about, folder, items)
    given.save(pd.DataFrame([[1.0], [2.0]], index=["b", "z"]), given.path_of(folder, "image"))
    assert {modality: ids.tolist() for modality, ids in given_ids(about, folder, items).items()} == {
        "image": ["b", "z"]
    }
    expected = "image.parquet: 2 vectors of 1 numbers, 1 of no item\n1 of 2 items have no image vector\n"
    assert capsys.readouterr().out == expected


FRAME = pd.DataFrame({"item_id": ["b", "a"], "vector": [[0.5, 1.5], [3.0, 4.0]]})


@pytest.mark.parametrize("cell", [list, np.array, lambda row: np.array(row, np.float16)])
def test_a_frame_may_hold_a_column_of_vectors(tmp_path, cell):
    path = given.path_of(tmp_path, "image")
    given.save(FRAME.assign(vector=FRAME["vector"].map(cell), price=1), str(path))
    table = pq.read_table(path)
    assert table.schema.equals(pa.schema({"item_id": pa.string(), "vector": pa.list_(pa.float32(), 2)}))
    assert table.to_pydict() == FRAME.to_dict("list")


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (FRAME.assign(vector=[[1.0], [1.0, 2.0]]), "row 2: 2 numbers, 1 in row 1"),
        (FRAME.assign(vector=[[1.0], [np.nan]]), "row 2: number 1 is nan, not finite"),
        (FRAME.assign(vector=[[1.0], None]), "row 2: no vector"),
        (FRAME.assign(vector=[np.ones((2, 2))] * 2), "the frame holds no vectors of numbers"),
        (FRAME.assign(vector=[["x"], ["y"]]), "the frame holds no vectors of numbers"),
        (FRAME.assign(item_id=["a", "a"]), "row 2: 'a' stands there twice"),
        (FRAME.assign(item_id=[1, 2]), "item_id is int64, not string"),
        (FRAME.rename(columns={"vector": "embedding"}), "the frame holds no vectors of numbers"),
        (FRAME[:0], "vector is null, not a list of floats"),
        (pd.DataFrame([[1.0], [np.inf]], index=["a", "b"]), "row 2: number 1 is inf, not finite"),
    ],
)
def test_a_wrong_frame_is_refused_and_the_old_file_stays(tmp_path, frame, message):
    path = given.path_of(tmp_path, "image")
    given.save(FRAME, path)
    before = path.read_bytes()
    with pytest.raises(SourceError, match=f"^image.parquet.*{message}"):
        given.save(frame, path)
    assert path.read_bytes() == before
