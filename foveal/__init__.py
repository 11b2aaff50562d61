"""foveal: visual attention in PyTorch. Add it, see it, trust it, find out whether it pays.

The names below are the whole public face. Each is imported when it is first asked for, so that `import foveal` costs
nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

HOMES = {
    "attach": "foveal.surgery",
    "attachments": "foveal.standing",
    "detach": "foveal.surgery",
    "load_weights": "foveal.networks.loading",
    "create_model": "foveal.networks",
    "list_models": "foveal.networks",
    "list_mechanisms": "foveal.mechanisms",
    "load_data": "foveal.data",
    "watch": "foveal.recording",
    "audit": "foveal.auditing",
    "prune_constant": "foveal.pruning",
    "replace": "foveal.replacing",
    "deploy": "foveal.deploying",
    "export": "foveal.exporting",
    "plain": "foveal.switching",
    "draw": "foveal.drawing",
    "score": "foveal.scoring",
    "train": "foveal.training",
    "compare": "foveal.comparing",
    "write_report": "foveal.report",
    "Record": "foveal.record",
    "Tap": "foveal.record",
}

__all__ = [
    "Record",
    "Tap",
    "__version__",
    "attach",
    "attachments",
    "audit",
    "compare",
    "create_model",
    "deploy",
    "detach",
    "draw",
    "export",
    "list_mechanisms",
    "list_models",
    "load_data",
    "load_weights",
    "plain",
    "prune_constant",
    "replace",
    "score",
    "train",
    "watch",
    "write_report",
]

if TYPE_CHECKING:
    from foveal.auditing import audit
    from foveal.comparing import compare
    from foveal.data import load_data
    from foveal.deploying import deploy
    from foveal.drawing import draw
    from foveal.exporting import export
    from foveal.mechanisms import list_mechanisms
    from foveal.networks import create_model, list_models
    from foveal.networks.loading import load_weights
    from foveal.pruning import prune_constant
    from foveal.record import Record, Tap
    from foveal.recording import watch
    from foveal.replacing import replace
    from foveal.report import write_report
    from foveal.scoring import score
    from foveal.standing import attachments
    from foveal.surgery import attach, detach
    from foveal.switching import plain
    from foveal.training import train


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module 'foveal' has no attribute {name!r}")
    return getattr(import_module(HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
