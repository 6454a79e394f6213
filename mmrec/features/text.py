"""Texts to vectors by any encoder that transformers' AutoModel loads, such as BERT or MPNet.

It comes from the hub at a pinned revision, from an installed package, or from a folder.

B batch, T tokens, D feature.
"""

import contextlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from huggingface_hub import snapshot_download
from huggingface_hub.utils import disable_progress_bars
from huggingface_hub.utils import logging as hub_logging
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from mmrec.config import BERT
from mmrec.features import FeatureError
from mmrec.files import sha256

WEIGHTS = "model.safetensors"
FILES = ("config.json", WEIGHTS, "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")


@dataclass(frozen=True, kw_only=True)
class TextEncoder:
    """A frozen encoder with everything that determines its output."""

    identity: dict[str, str]
    dim: int  # D
    batch_size: int
    spec: BERT
    tokenizer: PreTrainedTokenizerBase
    network: PreTrainedModel
    device: torch.device

    @torch.inference_mode()
    def __call__(self, texts: list[str]) -> Tensor:
        """B texts -> (B, D) float32 on the CPU. Tokens beyond `max_tokens` are left out."""
        limits = {"padding": True, "truncation": True, "max_length": self.spec.max_tokens}
        tokens = self.tokenizer(texts, **limits, return_tensors="pt").to(self.device)
        return pool(self.network(**tokens), tokens["attention_mask"], self.spec.pooling).float().cpu()


def pool(output, mask: Tensor, pooling: str) -> Tensor:
    """One vector a text, (B, D), from BERT's output and its attention mask (B, T).

    `cls`: the last state of the first token. `pooler`: that state after BERT's own dense layer and tanh.
    `mean`: the mean of the last states of all real tokens.
    """
    states = output.last_hidden_state  # (B, T, D)
    if pooling == "pooler":
        return output.pooler_output
    if pooling == "cls":
        return states[:, 0]
    real = mask[:, :, None].to(states.dtype)  # (B, T, 1)
    return (states * real).sum(1) / real.sum(1)


def build(spec: BERT, root: Path, device: torch.device | str) -> TextEncoder:
    """The encoder that params.yaml describes; its relative paths begin at `root`.

    Missing files or tensors raise FeatureError. Progress bars and warnings of the libraries, which would end up in
    notebooks, are silenced.
    """
    disable_progress_bars()
    hub_logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    folder, origin = _folder(spec, root)
    network, problems = AutoModel.from_pretrained(
        folder,
        local_files_only=True,
        use_safetensors=True,
        dtype=torch.float32,
        output_loading_info=True,
    )
    needed = (name for name in problems["missing_keys"] if spec.pooling == "pooler" or not name.startswith("pooler."))
    if lacking := sorted(needed):  # they would be random
        raise FeatureError(f"{WEIGHTS} of {origin} lacks {lacking[0]} ({len(lacking)} such tensors)")
    if spec.pooling == "pooler" and getattr(network, "pooler", None) is None:
        raise FeatureError(f"text encoder {origin}: {type(network).__name__} has no pooler: set pooling to mean or cls")
    return TextEncoder(
        identity={
            "name": "bert",
            "origin": origin,
            "layer": spec.pooling,
            "sha256": sha256(folder / WEIGHTS),
            "input": f"first {spec.max_tokens} tokens, 1",
            "batch_size": str(spec.batch_size),
        },
        dim=network.config.hidden_size,
        batch_size=spec.batch_size,
        spec=spec,
        tokenizer=AutoTokenizer.from_pretrained(folder, local_files_only=True),
        network=network.eval().requires_grad_(False).to(device),
        device=torch.device(device),
    )


def _folder(spec: BERT, root: Path) -> tuple[Path, str]:
    """The folder of the files, and the name of their origin."""
    if spec.name is not None:
        origin, wanted = f"{spec.name} {spec.revision}", {"revision": spec.revision, "allow_patterns": FILES}
        try:
            with contextlib.suppress(FileNotFoundError):  # a revision never changes: a fetched one needs no network
                folder = Path(snapshot_download(spec.name, **wanted, local_files_only=True))
                if (folder / WEIGHTS).is_file() and (folder / "config.json").is_file():
                    return folder, origin
            return Path(snapshot_download(spec.name, **wanted)), origin
        except Exception as error:  # the hub's client lets errors of its HTTP library through, of no common class
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise FeatureError(
                f"text encoder {spec.name}: {WEIGHTS} cannot be fetched from huggingface.co at revision "
                f"{spec.revision} ({reason}): fetch the files elsewhere and name their folder in params.yaml under "
                f"encoders.<name>.path (in place of name and revision)"
            ) from error
    if spec.package is not None:
        package = importlib.util.find_spec(spec.package)  # does not import it
        folder = Path(package.submodule_search_locations[0], "model") if package else None
        origin, remedy = spec.package, f"install the package {spec.package.replace('_', '-')}"
    else:
        folder, origin = root / spec.path, Path(spec.path).name
        remedy = f"place {', '.join(FILES[:4])} in {spec.path}"
    if folder is None or not (folder / WEIGHTS).is_file():
        remedy += ", or name a folder in params.yaml under encoders.<name>.path"
        raise FeatureError(f"text encoder {origin}: no {WEIGHTS}: {remedy}")
    return folder, origin
