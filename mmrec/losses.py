"""The parts of the training loss. Letters: N real positions, V items, D model width, F feature width, C categories."""

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK_BYTES = 32 * 2**20  # of logits held at once


class _SoftmaxCrossEntropy(torch.autograd.Function):
    """Loss and gradients chunk by chunk: three matrix products a chunk, and never more than one chunk of logits.

    Keeping all logits for the backward pass costs N x V numbers (6 GB for a batch of Amazon Sports); recomputing them
    costs a fourth product. Since the loss is a mean, its gradient is known as soon as a chunk's softmax is.
    """

    @staticmethod
    def forward(ctx, hidden: Tensor, table: Tensor, targets: Tensor) -> Tensor:
        rows = max(1, CHUNK_BYTES // (table.shape[0] * table.element_size()))
        grad_hidden, grad_table = torch.empty_like(hidden), torch.zeros_like(table)
        total = hidden.new_zeros(())
        for begin in range(0, len(hidden), rows):
            part, target = hidden[begin : begin + rows], targets[begin : begin + rows, None]
            logits = part @ table.T  # (rows, V)
            normaliser = logits.logsumexp(1, keepdim=True)
            total += (normaliser - logits.gather(1, target)).sum()
            slope = logits.sub_(normaliser).exp_()  # softmax, in place
            slope.scatter_add_(1, target, slope.new_full(target.shape, -1.0))
            grad_hidden[begin : begin + rows] = slope @ table
            grad_table.addmm_(slope.T, part)
        ctx.save_for_backward(grad_hidden, grad_table)
        return total / len(hidden)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        grad_hidden, grad_table = ctx.saved_tensors
        scale = grad / len(grad_hidden)
        return grad_hidden * scale, grad_table * scale, None


def next_item(hidden: Tensor, table: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy over the whole catalogue, averaged over positions; memory does not grow with N x V.

    Args:
        hidden: (N, D). table: (V, D) item embeddings, without padding. targets: (N,) rows of `table`.
    """
    return _SoftmaxCrossEntropy.apply(hidden, table, targets)


def regression(predicted: Tensor, target: Tensor, present: Tensor, kind: str) -> Tensor:
    """How far predicted features are from the next item's, averaged over positions whose next item has them.

    Args:
        predicted, target: (N, F). present: (N,) bool. kind: `cosine` (1 - cos, 0..2) or `mse` (mean over F).

    Returns:
        A number; 0 where nothing is present.
    """
    if kind == "cosine":
        each = 1 - F.cosine_similarity(predicted, target, dim=1)
    else:
        each = (predicted - target).square().mean(1)
    return _mean_where(each, present)


def multi_label(logits: Tensor, target: Tensor, present: Tensor) -> Tensor:
    """Binary cross-entropy of the next item's categories, averaged over categories and over positions that have any.

    Args:
        logits, target: (N, C), target multi-hot. present: (N,) bool.
    """
    return _mean_where(F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(1), present)


def _mean_where(each: Tensor, present: Tensor) -> Tensor:
    return each.where(present, 0).sum() / present.sum().clamp(min=1)
