"""torch's AdamW without the import of torch's compiler, which takes seconds of each start."""

from inspect import unwrap

import torch


class AdamW(torch.optim.AdamW):
    """Updates, state and settings are torch's, bit for bit; for optimizers that torch.compile does not compile.

    torch wraps these methods so that its compiler leaves them alone, and a wrapper imports the compiler when it is
    first called: 3 s of a processor, a third of the start of a small run. This class has the methods themselves.
    """

    step = torch.no_grad()(unwrap(torch.optim.Adam.step))
    add_param_group = unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = unwrap(torch.optim.Optimizer.zero_grad)
    state_dict = unwrap(torch.optim.Optimizer.state_dict)
    load_state_dict = unwrap(torch.optim.Optimizer.load_state_dict)
