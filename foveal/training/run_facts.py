"""Facts that a run adds to its checkpoints, checked as those in a file of another person's must be."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from foveal.data.preprocessing import Preprocessing
from foveal.training.config import AMP_DTYPES, BATCH, SEEDS
from foveal.training.recreate import typed
from foveal.training.run_figures import check_epoch, is_count, is_list


@dataclass(frozen=True)
class InferenceSettings:
    """How a run evaluates its validation and test parts. Another way rounds in another way."""

    amp: bool = False
    channels_last: bool = False
    batch_size: int = 64
    amp_dtype: str = AMP_DTYPES[0]

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> "InferenceSettings":
        """Read them from the facts of a checkpoint; older files lack them.

        Raises:
            ValueError: a fact of another type or out of its range.
        """
        stated = typed({"inference": {}, **facts}, "inference", dict)
        amp, layout = (typed({name: False, **stated}, name, bool) for name in ("amp", "channels_last"))
        size = stated.get("batch_size", cls.batch_size)
        if not is_count(size) or size > BATCH:
            raise ValueError(f"states batch_size={size!r:.80}; a number of images, 1 to {BATCH:,}, is needed")
        dtype = stated.get("amp_dtype", cls.amp_dtype)
        if dtype not in AMP_DTYPES:
            raise ValueError(f"states amp_dtype={dtype!r:.80}; {' or '.join(AMP_DTYPES)} is needed")
        return cls(amp, layout, size, dtype)

    def autocast(self, device: torch.device) -> torch.autocast:
        """Return a context in which a network computes in the run's precision."""
        return torch.autocast(device.type, getattr(torch, self.amp_dtype), enabled=self.amp)


def check_run_facts(facts: Mapping[str, Any]) -> None:
    """Check the facts of a run that a checkpoint states; each may be missing.

    Raises:
        ValueError: a fact of another type or out of its range, or one that does not agree with the network's options.
    """
    outputs = {"classes": len(facts["classes"]) if is_list(facts.get("classes")) else None}
    if "classes" in facts and not outputs["classes"]:
        raise ValueError(f"states classes={facts['classes']!r:.80}; a list of names is needed")
    if "preprocessing" in facts:
        outputs["channels"] = Preprocessing.from_facts(typed(facts, "preprocessing", dict)).shape[0]
    options = facts.get("options")
    options = options if isinstance(options, dict) else {}
    for name, option in (("classes", "num_classes"), ("channels", "in_chans")):
        needed = options.get(option)
        if option == "num_classes" and needed == 1:
            needed = 2  # one logit decides between two classes
        if outputs.get(name) is not None and needed is not None and outputs[name] != needed:
            raise ValueError(f"states {outputs[name]} {name}, and its network has {option}={options[option]!r:.80}")
    for name in ("groups", "data"):
        if not isinstance(facts.get(name, ""), str | None):
            raise ValueError(f"states {name}={facts[name]!r:.80}; a string is needed")
    if not 0 <= typed({"data_seed": 0, **facts}, "data_seed", int) < SEEDS:
        raise ValueError(f"states data_seed={facts['data_seed']}; a number from 0 to {SEEDS - 1:,} is needed")
    typed({"multi_label": False, **facts}, "multi_label", bool)
    InferenceSettings.from_facts(facts)
    for number, line in enumerate(typed({"lines": [], **facts}, "lines", list), start=1):
        check_epoch(f"states lines, {number}", line, number)
