"""A network compiled by torch.compile for training.

Each size of a batch is compiled by itself: with sizes left open, what a network was run on before would decide the code
that runs it now, and a resumed run would round in another way.
"""

from typing import cast

import torch
from torch import nn

from foveal.core.names import first_line


def compiled(network: nn.Module, device: torch.device) -> nn.Module:
    """Return a module that computes a network by compiled code, with its weights; the network itself does not change.

    Raises:
        ValueError: as `check_compiler`.
    """
    check_compiler(device)
    return cast(nn.Module, torch.compile(network, dynamic=False))


def check_compiler(device: torch.device) -> None:
    """Check on one small function that torch.compile works on this machine.

    Raises:
        ValueError: it does not, as without a compiler of C++ on a CPU.
    """
    try:
        torch.compile(torch.sin)(torch.zeros(2, device=device))
    except Exception as error:  # of whatever torch needs and does not find
        raise ValueError(f"compile=True: torch.compile does not work here: {first_line(error):.300}") from error
