"""The parts of the training loss. Letters: N real positions, V items, D model width, F feature width, C categories.

A criterion is the loss of the next item, hidden (N, D), table (V, D), targets (N,) -> a number: `softmax`,
`SampledSoftmax` or `BinaryCrossEntropy`. The table is the model's output embedding; item biases are a column of it.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Criterion = Callable[[Tensor, Tensor, Tensor], Tensor]

# Size of a chunk of logits. CPU: it stays in the cache during five passes (32 MiB take twice as long with 1 MiB of
# level 2). GPU: large enough to keep it busy.
CHUNK_BYTES = {"cpu": 2 * 2**20, "cuda": 32 * 2**20}
LEAST_ROWS = 64  # with a few rows a chunk a product reads the whole table for each: four times as slow at 100,000 items
TEMPERATURE = 0.07  # of the contrastive loss, as usual (CLIP begins there)


def rows_at_once(table: Tensor) -> int:
    """Positions whose logits over a table (V, D) make one chunk; of a large catalogue at least `LEAST_ROWS`."""
    rows = CHUNK_BYTES[table.device.type] // (len(table) * table.element_size())
    return rows if rows >= LEAST_ROWS // 4 else LEAST_ROWS


class _MeanLoss(torch.autograd.Function):
    """The forward pass saves the gradients of its first inputs, (N, ..) first, summed over the N positions."""

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        scale = grad / len(ctx.saved_tensors[0])
        gradients = [saved * scale for saved in ctx.saved_tensors]
        return *gradients, *[None] * (len(ctx.needs_input_grad) - len(gradients))


class _SoftmaxCrossEntropy(_MeanLoss):
    """The chunked softmax keeps one chunk of logits and computes loss and gradients with three products a chunk.

    All logits for the backward pass would be N x V numbers (6 GB for a batch of Amazon Sports); recomputing them would
    be a fourth product. The loss is a mean, so a chunk's softmax gives its gradient at once.
    """

    @staticmethod
    def forward(ctx, hidden: Tensor, table: Tensor, targets: Tensor) -> Tensor:
        rows = rows_at_once(table)
        grad_hidden, grad_table = torch.empty_like(hidden), torch.zeros_like(table)
        total = hidden.new_zeros(())
        for begin in range(0, len(hidden), rows):
            part, target = hidden[begin : begin + rows], targets[begin : begin + rows, None]
            logits = part @ table.T  # (rows, V)
            top, own = logits.amax(1, keepdim=True), logits.gather(1, target)
            mass = logits.sub_(top).exp_()  # once: exponentials cost as much as a product
            whole = mass.sum(1, keepdim=True)
            total += (whole.log() + top - own).sum()
            slope = mass.scatter_add_(1, target, -whole)  # times `whole`: dividing the small products is cheaper
            grad_hidden[begin : begin + rows] = slope @ table / whole
            grad_table.addmm_(slope.T, part / whole)
        ctx.save_for_backward(grad_hidden, grad_table)
        return total / len(hidden)


def softmax(hidden: Tensor, table: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy over the whole catalogue, averaged over positions. Memory does not grow with N x V.

    Args:
        hidden: (N, D). table: (V, D) item embeddings, without padding. targets: (N,) rows of `table`.
    """
    return _SoftmaxCrossEntropy.apply(hidden, table, targets)


class _SampledCrossEntropy(_MeanLoss):
    """Cross-entropy over the target and the drawn items."""

    @staticmethod
    def forward(ctx, hidden: Tensor, own: Tensor, rows: Tensor, shift: Tensor, left_out: Tensor) -> Tensor:
        """hidden (N, D), own (N,) scores of targets, rows (n, D), shift (n,), left_out (N, n) -> mean over N."""
        logits = torch.addmm(shift, hidden, rows.T).masked_fill_(left_out, -math.inf)  # (N, n)
        top = torch.maximum(logits.amax(1), own)
        mass, mass_own = logits.sub_(top[:, None]).exp_(), (own - top).exp()
        whole = mass.sum(1) + mass_own
        ctx.save_for_backward(mass @ rows / whole[:, None], mass_own / whole - 1, mass.T @ (hidden / whole[:, None]))
        return (whole.log() + top - own).mean()


class SampledSoftmax:
    """Cross-entropy over the target and `negatives` items drawn anew at each call, the same for all positions.

    The chance q of an item grows with the square root of 1 + its count in training. Uniform draws would be mostly easy
    negatives; draws by popularity would miss most of the catalogue. A drawn score s_j enters as s_j - log(n q_j), the
    log-Q correction (Bengio and Senecal 2008): the expected sum over draws is the sum over the catalogue for any q. The
    target enters uncorrected: its presence is certain. Draws of the target are masked.

    Args:
        counts: (V,) of each item in training. generator: of the draws, on the CPU.
    """

    def __init__(self, *, negatives: int, counts: Tensor, generator: torch.Generator):
        # NumPy: torch's square root and logarithm are MKL's, whose last bits depend on the maker of the processor.
        weight = np.sqrt(counts.cpu().numpy() + 1.0)
        self.q = torch.from_numpy(weight / weight.sum())
        self.correction = torch.from_numpy(np.log(negatives * self.q.numpy())).float().to(counts.device)
        self.negatives, self.generator = negatives, generator

    def __call__(self, hidden: Tensor, table: Tensor, targets: Tensor) -> Tensor:
        """hidden (N, D), table (V, D), targets (N,) -> mean over positions."""
        drawn = torch.multinomial(self.q, self.negatives, replacement=True, generator=self.generator)
        drawn = drawn.to(targets.device)
        own = (hidden * table[targets]).sum(1)
        left_out = drawn == targets[:, None]  # (N, n)
        return _SampledCrossEntropy.apply(hidden, own, table[drawn], -self.correction[drawn].to(hidden), left_out)


class BinaryCrossEntropy:
    """-log sigmoid(target) - sum of log(1 - sigmoid(item)) over `negatives` other items; with one it is SASRec's loss.

    Other items are drawn uniformly for each position by `generator`, on the CPU. SASRec's authors exclude all items of
    the user. Here these may be drawn: they are a handful of the catalogue.
    """

    def __init__(self, *, negatives: int, generator: torch.Generator):
        self.negatives, self.generator = negatives, generator

    def __call__(self, hidden: Tensor, table: Tensor, targets: Tensor) -> Tensor:
        """hidden (N, D), table (V, D), targets (N,) -> mean over positions."""
        drawn = torch.randint(len(table) - 1, (len(hidden), self.negatives), generator=self.generator)
        drawn = drawn.to(targets.device)
        drawn = drawn + (drawn >= targets[:, None])  # every item but the target
        own = (hidden * table[targets]).sum(1)
        others = torch.einsum("nd,nkd->nk", hidden, table[drawn])
        return (F.softplus(-own) + F.softplus(others).sum(1)).mean()


def regression(predicted: Tensor, target: Tensor, present: Tensor, kind: str) -> Tensor:
    """Distance of predicted features to the next item's, averaged over positions whose next item has them.

    Args:
        predicted, target: (N, F). present: (N,) bool. kind: `cosine` (1 - cos, 0..2) or `mse` (mean over F).

    Returns:
        A number; 0 where nothing is present.
    """
    if kind == "cosine":
        return _mean_where(1 - F.cosine_similarity(predicted, target, dim=1), present)
    return _mean_where((predicted - target).square().mean(1), present)


def contrastive(predicted: Tensor, items: Tensor, features: Tensor, present: Tensor) -> Tensor:
    """InfoNCE: cross-entropy of the next item's features among those of the batch's next items, by cosine.

    Args:
        predicted: (N, F). items: (N,) the next items; a repeated item is one candidate.
        features: (V + 1, F). present: (V + 1,) bool.

    Returns:
        A number, averaged over positions whose next item has the features; 0 where none has.
    """
    having = present[items]
    candidates, wanted = items[having].unique(return_inverse=True)
    if not len(candidates):
        return predicted.sum() * 0
    logits = F.normalize(predicted[having], dim=1) @ F.normalize(features[candidates], dim=1).T
    return F.cross_entropy(logits / TEMPERATURE, wanted)


def multi_label(logits: Tensor, target: Tensor, present: Tensor) -> Tensor:
    """Binary cross-entropy of the next item's categories, averaged over categories and over positions that have any.

    Args:
        logits, target: (N, C), target multi-hot. present: (N,) bool.
    """
    return _mean_where(F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(1), present)


def _mean_where(each: Tensor, present: Tensor) -> Tensor:
    return each.where(present, 0).sum() / present.sum().clamp(min=1)
