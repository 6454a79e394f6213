import pickle

import pytest
import safetensors.torch
import torch

from mmrec.features import FeatureError, weights


class Evil:
    def __reduce__(self):
        return print, ("code of the file runs",)


def test_verify(tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    assert weights.verify(path, None) == weights.verify(path, known) == known
    with pytest.raises(FeatureError, match=f"weights.safetensors has SHA-256 {known}, expected 00"):
        weights.verify(path, "00")


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth"])
def test_load(tmp_path, name):
    state = {"a.weight": torch.arange(3.0)}
    path = tmp_path / name
    safetensors.torch.save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    assert weights.load(path)["a.weight"].tolist() == [0, 1, 2]
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(FeatureError, match=f"{name} holds no weights"):
        weights.load(path)


def test_no_pickle_runs(tmp_path, capsys):
    path = tmp_path / "weights.pth"
    torch.save(Evil(), path)
    with pytest.raises(FeatureError, match="holds no weights"):
        weights.load(path)
    path.write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(FeatureError, match="holds no weights"):
        weights.load(path)
    assert capsys.readouterr().out == ""
