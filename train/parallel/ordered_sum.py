"""Means of gradients over processes that do not depend on the place of a gradient in a bucket."""

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from train.parallel.engine import Engine


def sum_in_order(wrapped: torch.nn.Module, engine: Engine) -> None:
    """Makes the gradients of three or more processes on CPUs equal, bit for bit, in a resumed run.

    DistributedDataParallel rearranges its buckets after its first step. Gloo adds the processes in an order that
    depends on the place in a bucket, and the sum of three numbers depends on their order. So the first step after a
    resume would round differently than in a run that was not stopped. Two processes need nothing: a + b is b + a.
    """
    if isinstance(wrapped, DistributedDataParallel) and engine.world > 2 and engine.device.type == "cpu":
        wrapped.register_comm_hook(None, mean_in_order)


def mean_in_order(_: object, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    """A hook of DistributedDataParallel: the mean over processes, each element summed from rank 0 to the last.

    Each process sums a part and sends it to all: as many bytes as a ring sends.
    """
    world = dist.get_world_size()
    gradient = bucket.buffer()
    part = -(-len(gradient) // world)
    padded = gradient.new_zeros(world * part)
    padded[: len(gradient)] = gradient
    received = torch.empty_like(padded)
    dist.all_to_all_single(received, padded)
    first, *others = received.view(world, part).unbind()
    total = first.clone()
    for other in others:
        total += other
    dist.all_gather_into_tensor(padded, total)
    done: torch.futures.Future[Tensor] = torch.futures.Future()
    done.set_result(gradient.copy_(padded[: len(gradient)]).div_(world))
    return done
