"""The scale of the loss with which a run trains in float16; without float16 it does nothing.

Numbers of float16 below 6e-8 are 0, as gradients often are. So the loss is multiplied by a scale, and the gradients are
divided by it before they are clipped and used. At gradients that are not finite, the optimizer's update is left out and
the scale is halved; after 2,000 updates without any it is doubled (`torch.amp.GradScaler`). All processes have the same
scale, since they share their gradients before these are examined.
"""

from collections.abc import Mapping
from typing import Any

from torch import device
from torch.amp import GradScaler

from foveal.training.recreate import typed
from foveal.training.run_facts import InferenceSettings
from foveal.training.run_figures import is_number

LEAST = 1e-4  # scale at which training ends: some thirty updates in a row were left out
HINT = "; numbers of float16 end at 65,504, those of --amp-dtype bfloat16 do not"


def create_scaler(settings: InferenceSettings, of: device) -> GradScaler:
    """Create the scale of the loss of a run on a device."""
    return GradScaler(of.type, enabled=settings.amp and settings.amp_dtype == "float16")


def check_scale(scaler: GradScaler) -> None:
    """Check that the optimizer is not left out for ever.

    Raises:
        FloatingPointError: gradients were not finite at any scale of the loss.
    """
    if scaler.is_enabled() and scaler.get_scale() < LEAST:
        raise FloatingPointError(f"the gradients are not finite, even those of the loss / {1 / LEAST:,.0f}{HINT}")


def check_stored_scaler(facts: Mapping[str, Any], scaler: GradScaler) -> None:
    """Check the state of the scale in the facts of a checkpoint; older ones, without float16, lack it.

    Raises:
        ValueError: another state than a run of this precision has.
    """
    stated, needed = typed({"scaler": {}, **facts}, "scaler", dict), scaler.state_dict()
    if stated.keys() != needed.keys():
        raise ValueError(f"states scaler={stated!r:.80}; {', '.join(needed) or 'nothing'} is needed")
    for name, value in stated.items():
        least = 0 if name == "_growth_tracker" else LEAST / 2
        if not is_number(value) or value < least:
            raise ValueError(f"states {name}={value!r:.80} of the scaler; a number of {least:g} or more is needed")
