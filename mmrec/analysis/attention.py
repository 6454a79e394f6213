"""The attention of a trained model at the last position, the one whose state scores the items.

Letters: L layers, B batch, H heads, S streams, T time, U users, F feature width.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from mmrec.data import batches
from mmrec.data.sequences import Sequences
from mmrec.models.sasrec import SASRec
from mmrec.statistics import compare_all, holm

BATCH = 256

Attention = Callable[[Tensor], tuple[Tensor, Tensor]]
"""items (B, T) -> weights (L, B, H, T, T), scores of each stream before fusion (L, B, H, S, T, T)."""


@torch.inference_mode()
def of_sasrec(model: SASRec, items: Tensor) -> tuple[Tensor, Tensor]:
    """SASRec's `Attention`. Its one stream is items with positions added."""
    transformer = model.transformer
    x, layers = transformer.norm(model.item(items) + transformer.position(items)), []
    for block in transformer.blocks:
        x, weights, scores = block(x, [], need_weights=True)
        layers.append((weights, scores))
    weights, scores = zip(*layers, strict=True)
    return torch.stack(weights), torch.stack(scores)


def _last_position(
    attention: Attention, sequences: Sequences, max_length: int
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Test users with two items or more: items (B, T), lengths (B,), the last position's weights and scores."""
    for question in batches.questions(sequences, "test", max_length, BATCH):
        several = question.lengths > 1
        if not several.any():
            continue
        items, lengths = question.items[several], question.lengths[several]
        weights, scores = attention(items)
        row = torch.arange(len(items), device=items.device)
        yield items, lengths, weights[:, row, :, lengths - 1], scores[:, row, :, :, lengths - 1]


def stream_shares(attention: Attention, streams: list[str], sequences: Sequences, max_length: int) -> pd.DataFrame:
    """Each stream's share of the variance of the fused scores, for fusion by `sum`.

    The fused score is a sum, so its variance over a user's items is the sum of each stream's covariance with it. A
    stream's share is its part of that sum, over all test users and heads. A stream that opposes the others has a share
    below 0. Layers count from 1, and the shares of a layer add up to 1.
    """
    with_fused = 0
    for _, lengths, _, scores in _last_position(attention, sequences, max_length):
        lengths = lengths[:, None, None, None, None]  # scores are (B, L, H, S, T): advanced indices stand first
        real = torch.arange(scores.shape[-1], device=scores.device) < lengths
        centred = (scores - (scores * real).sum(-1, keepdim=True) / lengths) * real
        with_fused = with_fused + (centred * centred.sum(3, keepdim=True)).double().sum((0, 2, 4))  # (L, S)
    shares = with_fused / with_fused.sum(1, keepdim=True)
    layers = np.repeat(range(1, len(shares) + 1), len(streams))
    return pd.DataFrame({"layer": layers, "stream": streams * len(shares), "share": shares.flatten().cpu()})


def examples(
    attention: Attention, sequences: Sequences, titles: list[str], max_length: int, count: int
) -> list[tuple[np.ndarray, np.ndarray, list[str]]]:
    """`of_history` of the `count` test users whose history is nearest to eight items."""
    return [
        of_history(attention, items, titles) for items in batches.examples(sequences, "test", max_length, count=count)
    ]


def of_history(attention: Attention, items: Tensor, titles: list[str]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """The last layer's attention in one history (1, T), mean over heads; `titles` are those of item 1, 2, ...

    Returns:
        Weights (T, T) after fusion, scores (S, T) before fusion at the last position, T item labels.
    """
    weights, scores = attention(items)
    labels = [f"{place}. {titles[item - 1] or '(no title)'}" for place, item in enumerate(items[0].tolist(), 1)]
    return weights[-1, 0].mean(0).cpu().numpy(), scores[-1, 0, :, :, -1].mean(0).cpu().numpy(), labels


@dataclass(frozen=True)
class Attended:
    """Attention of each test user's last position to the earlier items, and their resemblance to the last item."""

    weights: np.ndarray  # (N models, U, T) of the last layer, mean of heads
    alike: dict[str, np.ndarray]  # modality -> (U, T) resemblance; nan unless both items have it


def _resemblance(alike: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(U,) weighted mean resemblance of each user; nan where all weight (U, T) is on unknown resemblances (U, T)."""
    mass = (weight * ~np.isnan(alike)).sum(1)
    return np.divide(np.nansum(weight * alike, 1), mass, out=np.full(len(mass), np.nan), where=mass > 0)


def attended(
    attentions: list[Attention], features: dict[str, tuple[Tensor, Tensor]], sequences: Sequences, max_length: int
) -> Attended:
    """Attention and resemblances of the test users with two items or more.

    Resemblance is the cosine of standardised features. For categories it is the share in common (Jaccard).

    Args:
        attentions: of one model, trained with several seeds.
        features: modality -> (V + 1, F), presence (V + 1,). A modality is left out if no user has two items with it.
    """
    weights, alike = [], {modality: [] for modality in features}
    for asked in zip(*(_last_position(attention, sequences, max_length) for attention in attentions), strict=True):
        items, lengths = asked[0][:2]
        of_last_layer = torch.stack([weights[:, -1] for _, _, weights, _ in asked]).mean(2)  # (N, B, T)
        earlier = torch.arange(items.shape[1], device=items.device) < lengths[:, None] - 1  # all but the last item
        weights.append(_padded(of_last_layer * earlier, max_length, 0))
        last = items.gather(1, lengths[:, None] - 1)
        for modality, (matrix, present) in features.items():
            similarity = _jaccard if modality == "category" else partial(F.cosine_similarity, dim=2)
            both = present[items] & present[last] & earlier
            found = similarity(matrix[last], matrix[items]).where(both, torch.nan)
            alike[modality].append(_padded(found, max_length, torch.nan))
    resemblances = {modality: torch.cat(parts).cpu().numpy() for modality, parts in alike.items()}
    return Attended(
        weights=torch.cat(weights, 1).cpu().numpy(),
        alike={modality: of for modality, of in resemblances.items() if not np.isnan(of).all()},
    )


def compared(ours: Attended, theirs: Attended) -> pd.DataFrame:
    """attention_compared.csv: does one model's attention prefer items that resemble the last one more than another's?

    Each seed's attention gives each user a resemblance of its own. They are compared like the gains of two models:
    paired over users, bootstrap over users and seeds.

    Returns:
        modality, ours, theirs (means), difference, ci_low, ci_high (95 %), p_value, p_holm (over the modalities),
        users (with attention to an earlier item of known resemblance), seeds.
    """
    rows = []
    for modality, alike in ours.alike.items():
        our, their = (np.stack([_resemblance(alike, one) for one in of.weights]) for of in (ours, theirs))
        told = ~np.isnan(np.vstack([our, their])).any(0)
        our, their = our[:, told], their[:, told]
        found = compare_all({"ours": our, "theirs": their}, [("ours", "theirs")]).to_dict("records")[0]
        rows.append(found | {"modality": modality, "ours": our.mean(), "theirs": their.mean()})
    columns = ["modality", "ours", "theirs", "difference", "ci_low", "ci_high", "p_value", "p_holm", "users", "seeds"]
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(p_holm=holm(table["p_value"]))


def _padded(x: Tensor, width: int, value: float) -> Tensor:
    return F.pad(x.double(), (0, width - x.shape[-1]), value=value)


def _jaccard(last: Tensor, others: Tensor) -> Tensor:
    """Multi-hot (B, 1, F), (B, T, F) -> (B, T)."""
    either = torch.maximum(last, others).sum(2)
    return torch.minimum(last, others).sum(2) / either.clamp(min=1)
