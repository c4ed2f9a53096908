"""The start of an HVAE whose levels set the scale of its finest latents."""

from typing import cast

import torch
from torch import Tensor, nn

from audiovae.layers.level_latents import POSTERIOR_START, LevelPyramid
from audiovae.models.top_down import TopDownLevel


@torch.no_grad()
def start_with_levels(pyramid: LevelPyramid, down: nn.Module, above: nn.Module, up: nn.Module) -> None:
    """Lets the levels of the bands pass through the latents above the finest level from the first step on.

    Latent b begins as the level of band b; the last channels of the state carry them and nothing else. Where there are
    more bands than latents or channels, the first ones begin so. On the device "meta" there are no values to change.

    Args:
        pyramid: Enters levels into features and reads them from states.
        down: The encoder's layer from the finest level to the one above it.
        above: The `TopDownLevel` above the finest one.
        up: The decoder's layer from that level to the finest.
    """
    above = cast(TopDownLevel, above)
    first_in, first_out = cast(nn.Conv1d, pyramid.enter[0]), cast(nn.Conv1d, pyramid.leave[0])
    if first_in.weight.is_meta:
        return
    width, bands, taps = first_in.weight.shape
    count = min(bands, above.shift.weight.shape[0], width)
    band = torch.arange(count)
    place = band + width - count
    # The tap of the frame itself: the last one of a causal layer, which needs no padding, else the one in the middle.
    middle = taps // 2 if first_in.padding != (0,) else taps - 1
    mix = above.mix[0]
    for layer in (*pyramid.enter, *pyramid.leave):
        nn.init.zeros_(cast(Tensor, layer.weight))
    for layer in (*pyramid.enter, *pyramid.leave, above.shift, above.enter):
        nn.init.zeros_(cast(Tensor, layer.bias))
    for layer in (down, mix, up):
        cast(Tensor, layer.weight)[place] = 0
    first_in.weight[place, band, middle] = 1
    cast(Tensor, mix.weight)[place, place, middle] = 1
    above.shift.weight[band] = 0
    above.shift.weight[band, place, middle] = 1
    above.enter.weight[place, band, middle] = 1
    first_out.weight[band, place, middle] = 1
    cast(Tensor, above.log_scale.bias)[:count] = POSTERIOR_START
