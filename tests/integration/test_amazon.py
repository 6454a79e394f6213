"""`dvc repro` of an Amazon data set, from a provider's server to result tables: from a good one, and from a bad one.

The server is on this machine. Files have the provider's format, pictures come over http, and the encoders are VGG16's
convolutions and a BERT: the architectures of the real ones, with random weights in local files.
"""

import gzip
import io
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import amazon_files
import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import servers
import torch
from PIL import Image
from ruamel.yaml import YAML
from torchvision.models import vgg16
from transformers import BertConfig, BertModel, BertTokenizerFast

from mmrec.features import store
from mmrec.files import sha256

ROOT = Path(__file__).parents[2]
CATEGORY = "Luxury_Beauty"
REVIEWS, ITEMS = 1600, 200
PICTURES = 20  # different ones: VGG16 takes a second for a few of them
FILES = [f"categoryFilesSmall/{CATEGORY}_5.json.gz", f"metaFiles2/meta_{CATEGORY}.json.gz"]

pytestmark = pytest.mark.slow


def picture(number: int) -> bytes:
    """Coarse noise, as a JPEG."""
    pixels = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((320, 240), Image.Resampling.BICUBIC).save(file, format="JPEG")
    return file.getvalue()


@pytest.fixture(scope="module")
def encoders(tmp_path_factory) -> dict:
    """Settings of both encoders, whose weights are random."""
    folder = tmp_path_factory.mktemp("encoders")
    torch.manual_seed(0)
    weights = {f"features.{name}": value for name, value in vgg16().features.state_dict().items()}
    safetensors.torch.save_file(weights, folder / "vgg16.safetensors")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *amazon_files.WORDS, *map(str.lower, amazon_files.KINDS)]
    (folder / "vocab.txt").write_text("\n".join(dict.fromkeys(words)))
    tokenizer = BertTokenizerFast(str(folder / "vocab.txt"))
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=len(tokenizer), **shape)).save_pretrained(folder / "bert")
    tokenizer.save_pretrained(folder / "bert")
    path = folder / "vgg16.safetensors"
    return {
        "vgg16_fc7": {"kind": "vgg16", "layer": "conv5", "weights": str(path), "sha256": sha256(path), "batch_size": 8},
        "bert_base": {"kind": "bert", "path": str(folder / "bert"), "pooling": "pooler", "max_tokens": 32},
    }


def project(root: Path, encoders: dict, mirrors: list[str], trusted: str) -> None:
    """The project as it is, but for where the data come from, the weights, and how long it trains."""
    for name in ("mmrec", "notebooks"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, root / name)
    (root / "references").mkdir()
    shutil.copy(ROOT / "references" / "provenance.yaml", root / "references")
    yaml = YAML(typ="safe")
    params = yaml.load(ROOT / "params.yaml")
    params["datasets"]["luxury_beauty"]["source"] |= {
        "mirrors": mirrors,
        "pictures": {"deadline": 1.0, "trusted": [trusted]},
    }
    params["encoders"] |= encoders
    params["runtime"]["encoder_threads"] = 1
    params["training"] |= {"epochs": 2}
    params["models"]["sasrec"] |= {"dim": 16, "layers": 1}
    params["models"]["maf"] |= {"dim": 16, "stream_dim": 16, "layers": 1}
    params["protocol"]["negatives"] = 20
    params["seeds"] = [0]
    yaml.dump(params, root / "params.yaml")
    dvc(root, "init", "--no-scm", "--quiet")


def dvc(root: Path, *arguments: str) -> str:
    """What it printed."""
    ended = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert ended.returncode == 0, ended.stderr + ended.stdout
    return ended.stdout + ended.stderr


def provide(server: servers.Server, folder: Path) -> None:
    """Put the data set on the server: its two files, and the pictures that they name."""
    amazon_files.write(folder, CATEGORY, REVIEWS, ITEMS, address=lambda number: server.url(f"{number}.jpg"))
    server.content.update({path: (folder / path.rpartition("/")[2]).read_bytes() for path in FILES})
    server.content.update({f"{number}.jpg": picture(number % PICTURES) for number in range(ITEMS)})


def reproduced(root: Path, encoders: dict, spoil: Callable[[servers.Server], None] | None = None) -> Path:
    """A project after `dvc repro results@luxury_beauty`."""
    with servers.Server({}) as server:
        provide(server, root / "provider")
        if spoil:
            spoil(server)
        project(root, encoders, [server.url("gone"), server.url("")], server.address)
        dvc(root, "repro", "results@luxury_beauty")
    return root


@pytest.fixture(scope="module")
def projects(tmp_path_factory, encoders) -> tuple[Path, Path]:
    """From a good server and from a bad one; side by side, since each of many processes uses one core."""
    with ThreadPoolExecutor() as pool:
        well = pool.submit(reproduced, tmp_path_factory.mktemp("good"), encoders)
        badly = pool.submit(reproduced, tmp_path_factory.mktemp("bad"), encoders, spoil)
        return well.result(), badly.result()


@pytest.fixture(scope="module")
def served_well(projects) -> Path:
    return projects[0]


@pytest.fixture(scope="module")
def served_badly(projects) -> Path:
    return projects[1]


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> amazon_files.Written:
    """What is in the provider's files, whatever the addresses of pictures."""
    return amazon_files.write(tmp_path_factory.mktemp("provider"), CATEGORY, REVIEWS, ITEMS)


def interim(root: Path, name: str) -> pd.DataFrame:
    return pd.read_parquet(root / "data" / "interim" / "luxury_beauty" / f"{name}.parquet")


def quality(root: Path) -> dict:
    return json.loads((root / "data" / "interim" / "luxury_beauty" / "quality.json").read_text())


def results(root: Path) -> pd.DataFrame:
    return pd.read_csv(root / "reports" / "luxury_beauty" / "tables" / "results.csv")


def image_features(root: Path) -> store.Features:
    return store.load(root / "data" / "processed" / "luxury_beauty" / "features" / "image.safetensors")


# --- a good server -----------------------------------------------------------------------------------------------


def test_one_command_leads_from_a_server_to_result_tables(served_well, written):
    assert set(results(served_well)["experiment"]) == {"popularity", "sasrec", "maf"}
    items = interim(served_well, "items")
    assert len(items) == written.reviewed and items["image"].notna().all() and items["image"].nunique() == PICTURES
    assert len(interim(served_well, "interactions")) == written.reviews
    assert quality(served_well)["images"] == {"listed": len(items), "usable": len(items), "unusable": {}}
    features = image_features(served_well)
    assert features.matrix.shape[1] == 512 and features.mask[1:].all()
    assert features.meta["encoder"]["name"] == "vgg16"


def test_what_was_fetched_is_recorded(served_well):
    record = json.loads((served_well / "references" / "checksums.json").read_text())
    assert record == {
        f"luxury_beauty/{path.name}": {"sha256": sha256(path), "size": path.stat().st_size}
        for path in (served_well / "provider").iterdir()
    }


def test_a_reader_cannot_miss_that_these_are_not_the_published_data(served_well):
    notebook = (served_well / "reports" / "luxury_beauty" / "01_prepare_data.ipynb").read_text()
    assert "WARNING: THESE ARE NOT THE DATA THAT NUMBERS ARE PUBLISHED OF" in notebook
    assert "3,362 published" in notebook


def test_nothing_is_done_twice(served_well):
    assert "are up to date" in dvc(served_well, "repro", "results@luxury_beauty")  # and no server is there any more


# --- a bad server ------------------------------------------------------------------------------------------------


def spoil(server: servers.Server) -> None:
    """Every fault: of the files, of their lines, of the pictures."""
    reviews, products = FILES
    for path in FILES:
        server.content[path] = with_bad_lines(server.content[path])
    server.content["moved/16.jpg"] = server.content["16.jpg"]
    server.content["4.jpg"] = picture(4)[:-400]
    server.content["5.jpg"] = giant()
    server.content["6.jpg"] = b"GIF89a, not quite"
    server.content["7.jpg"] = b""
    server.faults = {
        f"gone/{reviews}": servers.html(),
        f"gone/{products}": servers.status(404),
        reviews: [servers.status(503), servers.cut(5000), servers.cut(20_000)],
        products: [servers.cut(1000), servers.ignoring_ranges()],
        "0.jpg": servers.status(404),
        "1.jpg": servers.html(),
        "2.jpg": servers.redirect("file:///etc/passwd"),
        "3.jpg": servers.redirect("http://10.0.0.1/3.jpg"),
        "8.jpg": servers.endless,
        "9.jpg": servers.drip,
        "10.jpg": servers.silent,
        "11.jpg": servers.redirect(server.url("11.jpg")),
        "12.jpg": servers.bomb(50_000_000),
        "13.jpg": servers.redirect("http://127.0.0.1:1/"),
        "14.jpg": [servers.status(503)],
        "15.jpg": [servers.cut(100), servers.status(500)],
        "16.jpg": servers.redirect(server.url("moved/16.jpg")),
    }


LOST = {  # number of the product: why its picture is lost; the faults of 14, 15 and 16 pass
    0: "not found",
    1: "a web page",
    2: "unsupported scheme",
    3: "private address",
    4: "truncated",
    5: "too large",
    6: "not an image",
    7: "empty",
    8: "too many bytes",
    9: "no answer in time",
    10: "no answer in time",
    11: "redirect loop",
    12: "too many bytes",
    13: "private address",
}
BAD_LINES = [b'{"asin": "cut', b"[]", b"\xff\xfe", b"null", b"{}", b'{"reviewerID": "A", "asin": ""}']


def with_bad_lines(content: bytes) -> bytes:
    """The same reviews, with a line that cannot be used after each of the first ones."""
    lines = gzip.decompress(content).splitlines()
    for number, line in enumerate(BAD_LINES):
        lines.insert(2 * number, line)
    return gzip.compress(b"\n".join(lines) + b"\n")


def giant() -> bytes:
    file = io.BytesIO()
    Image.new("1", (9000, 9000)).save(file, format="PNG")
    return file.getvalue()


def test_tables_are_those_of_a_good_server_but_for_the_pictures_that_are_lost(served_well, served_badly):
    pd.testing.assert_frame_equal(interim(served_badly, "interactions"), interim(served_well, "interactions"))
    lost = amazon_files.item_ids(np.array(list(LOST))).to_pylist()
    expected = interim(served_well, "items")
    expected["image"] = expected["image"].mask(expected["item_id"].isin(lost), None)
    pd.testing.assert_frame_equal(interim(served_badly, "items"), expected)


def test_all_that_is_lost_is_counted(served_well, served_badly, written):
    well, badly = quality(served_well), quality(served_badly)
    unusable = {"listed": written.reviewed, "usable": written.reviewed - len(LOST), "unusable": Counter(LOST.values())}
    assert badly["images"] == unusable
    for table in ("interactions", "items"):
        assert badly[table]["kept"] == well[table]["kept"]
        assert badly[table]["read"] == well[table]["read"] + len(BAD_LINES)
        assert sum(badly[table]["dropped"].values()) == sum(well[table]["dropped"].values()) + len(BAD_LINES)


def test_results_differ_only_where_pictures_count(served_well, served_badly):
    well, badly = results(served_well), results(served_badly)
    blind = well["experiment"] != "maf"
    pd.testing.assert_frame_equal(badly[blind], well[blind])
    assert len(badly) == len(well)


def test_features_of_all_other_items_are_the_same(served_well, served_badly):
    well, badly = image_features(served_well), image_features(served_badly)
    assert (~badly.mask[1:]).sum() == len(LOST)
    assert torch.equal(well.matrix[badly.mask], badly.matrix[badly.mask])
