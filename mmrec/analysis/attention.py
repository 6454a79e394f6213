"""What a trained model's attention looks at, asked of its last position: the one that decides what is recommended.

Letters: L layers, B batch, H heads, S streams, T time, U users, F feature width.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from mmrec.data.batches import questions
from mmrec.data.sequences import Sequences
from mmrec.models.sasrec import SASRec
from mmrec.statistics import compare, holm, resampled_means

BATCH = 256
SHUFFLES = 1000
SEED = 20240527

Attention = Callable[[Tensor], tuple[Tensor, Tensor]]
"""items (B, T) -> weights (L, B, H, T, T), scores of each stream before fusion (L, B, H, S, T, T)."""


@torch.inference_mode()
def of_sasrec(model: SASRec, items: Tensor) -> tuple[Tensor, Tensor]:
    """What SASRec looks at, an `Attention` once the model is given; its one stream is items with positions added.

    items (B, T) -> weights (L, B, H, T, T), scores (L, B, H, 1, T, T).
    """
    transformer = model.transformer
    x, shown = transformer.norm(model.item(items) + transformer.position(items)), []
    for block in transformer.blocks:
        x, weights, scores = block(x, [], explicit=True)
        shown.append((weights, scores))
    return torch.stack([w for w, _ in shown]), torch.stack([s for _, s in shown])


def _asked(
    attention: Attention, sequences: Sequences, max_length: int
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Test users with two items or more: items (B, T), lengths (B,), the last position's weights and scores."""
    for question in questions(sequences, "test", max_length, BATCH):
        several = question.lengths > 1
        if not several.any():
            continue
        items, lengths = question.items[several], question.lengths[several]
        weights, scores = attention(items)
        row = torch.arange(len(items), device=items.device)
        yield items, lengths, weights[:, row, :, lengths - 1], scores[:, row, :, :, lengths - 1]


def stream_shares(attention: Attention, streams: list[str], sequences: Sequences, max_length: int) -> pd.DataFrame:
    """How much of what attention prefers comes from each stream, where scores are fused by `sum`.

    The fused score is a sum, so its variance over a user's items is the sum of each stream's covariance with it. A
    stream's share is its part of that, over all test users and heads; below 0 where it works against the others.

    Returns:
        layer (from 1), stream, share; the shares of a layer add up to 1.
    """
    with_fused = 0
    for _, lengths, _, scores in _asked(attention, sequences, max_length):
        # Advanced indices stand first: (B, L, H, S, T).
        seen = torch.arange(scores.shape[-1], device=scores.device) < lengths[:, None]  # (B, T)
        seen = seen[:, None, None, None]
        centred = (scores - (scores * seen).sum(-1, keepdim=True) / lengths[:, None, None, None, None]) * seen
        with_fused = with_fused + (centred * centred.sum(3, keepdim=True)).double().sum((0, 2, 4))  # (L, S)
    shares = with_fused / with_fused.sum(1, keepdim=True)
    rows = [
        (layer, stream, share.item())
        for layer, of_layer in enumerate(shares, 1)
        for stream, share in zip(streams, of_layer, strict=True)
    ]
    return pd.DataFrame(rows, columns=["layer", "stream", "share"])


def relations(
    attentions: list[Attention], features: dict[str, tuple[Tensor, Tensor]], sequences: Sequences, max_length: int
) -> pd.DataFrame:
    """Does the last layer look at earlier items that resemble the last one, more than chance has it?

    Resemblance: cosine of standardised features; of categories, the share that two items have in common (Jaccard).
    Observed: its mean over a user's earlier items, weighted by attention (mean over heads and models), then over users.
    Chance: each user's items under the attention of another user with as many items, so that mere recency counts on
    both sides; a permutation test.

    Args:
        attentions: of the same model, trained with several seeds.
        features: modality -> (V + 1, F), presence (V + 1,).

    Returns:
        modality, observed, chance (mean), chance_low, chance_high (95 % of permutations), p_value (one-sided), users. A
        modality that no user has twice is left out.
    """
    looks = _looks(attentions, features, sequences, max_length)
    weight, count = looks.weights.mean(0), looks.earlier
    generator = np.random.default_rng(SEED)
    order = np.argsort(count, kind="stable")
    shuffles = []
    for _ in range(SHUFFLES):  # a permutation of users with equally many items
        shuffled = np.empty(len(count), int)
        shuffled[order] = np.lexsort((generator.random(len(count)), count))
        shuffles.append(shuffled)
    rows = []
    for modality in looks.modalities:
        observed = np.nanmean(looks.resemblance(modality, weight))
        chance = np.array([np.nanmean(looks.resemblance(modality, weight[shuffled])) for shuffled in shuffles])
        low, high = np.quantile(chance, [0.025, 0.975])
        p_value = (1 + (chance >= observed).sum()) / (1 + SHUFFLES)
        users = int(looks.known[modality].any(1).sum())
        rows.append((modality, observed, chance.mean(), low, high, p_value, users))
    columns = ["modality", "observed", "chance", "chance_low", "chance_high", "p_value", "users"]
    return pd.DataFrame(rows, columns=columns)


def beside(
    ours: list[Attention],
    theirs: list[Attention],
    features: dict[str, tuple[Tensor, Tensor]],
    sequences: Sequences,
    max_length: int,
) -> pd.DataFrame:
    """Does one model's attention prefer items that resemble the last one more than another model's?

    The resemblance of `relations`, but of each user under each seed's attention by itself, compared as answers are:
    paired over users, bootstrap over users and seeds.

    Args:
        ours, theirs: of models trained with several seeds. The rest: as for `relations`.

    Returns:
        modality, ours, theirs (means), difference, ci_low, ci_high (95 %), p_value, p_holm (over the modalities),
        users (those that attend to an earlier item whose resemblance is known), seeds.
    """
    both = [_looks(attentions, features, sequences, max_length) for attentions in (ours, theirs)]
    rows = []
    for modality in both[0].modalities:
        our, their = (np.stack([looks.resemblance(modality, weight) for weight in looks.weights]) for looks in both)
        told = ~np.isnan(np.vstack([our, their])).any(0)
        our, their = our[:, told], their[:, told]
        found = compare(our, their, *np.split(resampled_means(np.vstack([our, their])), [len(our)], axis=1))
        interval = (found.difference, found.ci_low, found.ci_high, found.p_value)
        rows.append((modality, our.mean(), their.mean(), *interval, found.users, found.seeds))
    columns = ["modality", "ours", "theirs", "difference", "ci_low", "ci_high", "p_value", "users", "seeds"]
    table = pd.DataFrame(rows, columns=columns)
    table.insert(7, "p_holm", holm(table["p_value"].to_numpy()))
    return table


@dataclass(frozen=True)
class _Looks:
    """What each test user's last position looks at among the earlier items, and what is there to look at."""

    weights: np.ndarray  # (N models, U, T) of the last layer, mean of heads
    alike: dict[str, np.ndarray]  # modality -> (U, T) resemblance to the last item, 0 where unknown
    known: dict[str, np.ndarray]  # modality -> (U, T) 0 or 1: both items have it
    earlier: np.ndarray  # (U,) how many items come before the last

    @property
    def modalities(self) -> list[str]:
        """Those of which anything is known."""
        return [modality for modality, known in self.known.items() if known.any()]

    def resemblance(self, modality: str, weight: np.ndarray) -> np.ndarray:
        """(U,) of each user the mean under weights (U, T); nan where no weight is on an item of which it is known."""
        mass = (weight * self.known[modality]).sum(1)
        mean = np.full(len(mass), np.nan)
        return np.divide((weight * self.alike[modality]).sum(1), mass, out=mean, where=mass > 0)


def _looks(
    attentions: list[Attention], features: dict[str, tuple[Tensor, Tensor]], sequences: Sequences, max_length: int
) -> _Looks:
    weights, alike, known, counts = [], {m: [] for m in features}, {m: [] for m in features}, []
    for asked in zip(*(_asked(attention, sequences, max_length) for attention in attentions), strict=True):
        items, lengths = asked[0][:2]
        of_last_layer = torch.stack([weights[:, -1] for _, _, weights, _ in asked]).mean(2)  # (N, B, T)
        earlier = torch.arange(items.shape[1], device=items.device) < lengths[:, None] - 1  # all but the last item
        weights.append(_padded(of_last_layer * earlier, max_length))
        counts.append(lengths - 1)
        last = items.gather(1, lengths[:, None] - 1)
        for modality, (matrix, present) in features.items():
            both = present[items] & present[last] & earlier
            similarity = _jaccard if modality == "category" else _cosine
            alike[modality].append(_padded(similarity(matrix[last], matrix[items]) * both, max_length))
            known[modality].append(_padded(both.double(), max_length))
    return _Looks(
        weights=torch.cat(weights, 1).cpu().numpy(),
        alike={modality: torch.cat(parts).cpu().numpy() for modality, parts in alike.items()},
        known={modality: torch.cat(parts).cpu().numpy() for modality, parts in known.items()},
        earlier=torch.cat(counts).cpu().numpy(),
    )


def _padded(x: Tensor, width: int) -> Tensor:
    return F.pad(x.double(), (0, width - x.shape[-1]))


def _cosine(last: Tensor, others: Tensor) -> Tensor:
    """(B, 1, F), (B, T, F) -> (B, T)."""
    return F.cosine_similarity(last, others, dim=2)


def _jaccard(last: Tensor, others: Tensor) -> Tensor:
    """Multi-hot (B, 1, F), (B, T, F) -> (B, T)."""
    either = torch.maximum(last, others).sum(2)
    return torch.minimum(last, others).sum(2) / either.clamp(min=1)
