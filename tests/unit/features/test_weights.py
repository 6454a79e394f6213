import pickle

import pytest
import safetensors.torch
import torch

from mmrec.features import FeatureError, image


class Evil:
    def __reduce__(self):
        return print, ("code of the file runs",)


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth"])
def test_weights_load_and_cut_files_are_refused(tmp_path, name):
    state = {"a.weight": torch.arange(3.0)}
    path = tmp_path / name
    safetensors.torch.save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    assert image.load(path)["a.weight"].tolist() == [0, 1, 2]
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(FeatureError, match=f"{name} holds no weights"):
        image.load(path)


def test_no_pickle_runs(tmp_path, capsys):
    path = tmp_path / "weights.pth"
    torch.save(Evil(), path)
    with pytest.raises(FeatureError, match="holds no weights"):
        image.load(path)
    path.write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(FeatureError, match="holds no weights"):
        image.load(path)
    assert capsys.readouterr().out == ""
