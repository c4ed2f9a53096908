"""FLOPs of a training step, counted on tensors without content: nothing is computed, drawn or allocated."""

import copy

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel

from audiovae import Noise
from audiovae.trainable import Trainable
from train.optim.objective import Objective

CHUNKS = 2  # operations grow with the number of chunks; a dimension of one could be left out somewhere


class NoNoise(Noise):
    """Takes the place of the random numbers, and draws none."""

    def __init__(self, items: int) -> None:
        self.rows = torch.arange(items)
        self.total = items

    def normal(self, *shape: int) -> Tensor:
        """Values without content: [n, *shape] float32."""
        return torch.empty(self.total, *shape)

    def integers(self, below: int, *shape: int) -> Tensor:
        """Values without content: [n, *shape] int64."""
        return torch.zeros(self.total, *shape, dtype=torch.int64)


def flops_of_chunk(model: Trainable, objective: Objective) -> float:
    """FLOPs of the forward and backward pass over one chunk, without the optimizer's.

    Matrix products and convolutions count, as `torch.utils.flop_counter` counts them: a multiplication and an addition
    are two. Spectra, activations, norms and the representation of the input do not count. The model stays as it is.
    """
    from torch.utils.flop_counter import FlopCounterMode  # it imports Triton

    # The counter does not know the fused kernels of attention for CPUs.
    with FakeTensorMode(), sdpa_kernel(SDPBackend.MATH):
        hollow = _without_content(model).train()
        # Not from audio: what `represent` keeps for later calls would have no content.
        target = model.example_target(CHUNKS)
        with FlopCounterMode(display=False) as counter, torch.enable_grad():
            output = hollow(target, NoNoise(CHUNKS))
            terms = hollow.distances(output.recon, target) | output.losses
            objective(terms, objective.weights_at(0)).mean().backward()
    return counter.get_total_flops() / CHUNKS


def _without_content(model: Trainable) -> Trainable:
    """A copy on the CPU whose parameters and buffers have shapes and types alone; call it in a FakeTensorMode."""
    hollow: dict[int, Tensor] = {}
    for tensor in [*model.parameters(), *model.buffers()]:
        empty = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
        if isinstance(tensor, nn.Parameter):
            empty = nn.Parameter(empty, tensor.requires_grad)
        hollow[id(tensor)] = empty
    return copy.deepcopy(model, dict(hollow))
