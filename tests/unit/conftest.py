"""A project of one small data set, as far as the stages before training leave it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mmrec import config
from mmrec.experiments.inputs import Data
from mmrec.features import store


@pytest.fixture(scope="session")
def shop_params() -> Path:
    """A params.yaml whose one data set is `shop`."""
    return Path(__file__).parents[1] / "fixtures" / "shop.yaml"


@pytest.fixture(scope="session")
def settings(shop_params) -> config.Config:
    """Those of `shop_params`."""
    return config.load(shop_params)


@pytest.fixture(scope="session")
def write_shop(shop: Data) -> Callable[[Path], None]:
    """Write data/processed/<dataset>."""

    def write(folder: Path) -> None:
        shop.sequences.save(folder / "sequences.safetensors")
        for modality, (matrix, present) in shop.features.items():
            store.save(folder / "features" / f"{modality}.safetensors", store.Features(matrix, present, {}))

    return write


@pytest.fixture
def paths(tmp_path, write_shop) -> config.Paths:
    """Folders of a project with the prepared data set in place."""
    found = config.Paths(tmp_path, tmp_path)
    write_shop(found.processed("shop"))
    return found
