"""Gradients of several tasks: their cosines, and PCGrad (Yu et al., NeurIPS 2020)."""

from itertools import combinations

import torch
from torch import Tensor, nn


class TaskGradients:
    """Collects each task's gradient over the groups of a batch, then sets the parameters' gradients.

    Args:
        project: PCGrad (algorithm 1): each task's gradient is projected off the conflicting ones, in random order;
            False: the plain sum.
        generator: of that order, on the CPU.
    """

    def __init__(self, model: nn.Module, *, project: bool, generator: torch.Generator):
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.project, self.generator = project, generator
        self.tasks: dict[str, Tensor] = {}
        self.shared: Tensor | None = None

    def add(self, tasks: dict[str, Tensor]) -> None:
        """Add the gradient of each task's loss to the batch's."""
        reached = []
        for name, loss in tasks.items():
            found = torch.autograd.grad(loss, self.parameters, retain_graph=True, allow_unused=True)
            pairs = zip(self.parameters, found, strict=True)
            flat = torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for p, g in pairs])
            self.tasks[name] = self.tasks[name] + flat if name in self.tasks else flat
            reached.append([g is not None for g in found])
        by_all = torch.tensor(reached).all(0).repeat_interleave(torch.tensor([p.numel() for p in self.parameters]))
        self.shared = by_all.to(flat.device)

    def settle(self) -> dict[str, float]:
        """Set every parameter's `grad` and forget the tasks.

        Returns:
            `cos_<a>_<b>`: cosine of a pair of tasks, over the parameters that all tasks reach. `conflict_<a>_<b>`: 1
            if the cosine is below 0, else 0.
        """
        noted = {}
        for a, b in combinations(self.tasks, 2):
            cosine = torch.cosine_similarity(self.tasks[a][self.shared], self.tasks[b][self.shared], dim=0).item()
            noted |= {f"cos_{a}_{b}": cosine, f"conflict_{a}_{b}": float(cosine < 0)}
        gradients = list(self.tasks.values())
        total = sum(self._projected(gradients)) if self.project else sum(gradients)
        for parameter, gradient in zip(self.parameters, total.split([p.numel() for p in self.parameters]), strict=True):
            parameter.grad = gradient.view_as(parameter)
        self.tasks = {}
        return noted

    def _projected(self, gradients: list[Tensor]) -> list[Tensor]:
        projected = []
        for own, gradient in enumerate(gradients):
            for other in torch.randperm(len(gradients), generator=self.generator).tolist():
                against = gradient @ gradients[other]
                if other != own and against < 0:
                    gradient = gradient - against / gradients[other].square().sum() * gradients[other]
            projected.append(gradient)
        return projected
