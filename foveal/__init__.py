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
    "class_activation": "foveal.grad_cam",
    "prune_constant": "foveal.pruning",
    "replace": "foveal.replacing",
    "deploy": "foveal.deployment.deploying",
    "export": "foveal.deployment.exporting",
    "plain": "foveal.switching",
    "draw": "foveal.drawing",
    "score": "foveal.scoring",
    "excitation_by_class": "foveal.analysing",
    "selection_by_size": "foveal.analysing",
    "pose_before_and_after": "foveal.analysing",
    "train": "foveal.training",
    "compare": "foveal.comparison.comparing",
    "write_report": "foveal.comparison.report",
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
    "class_activation",
    "compare",
    "create_model",
    "deploy",
    "detach",
    "draw",
    "excitation_by_class",
    "export",
    "list_mechanisms",
    "list_models",
    "load_data",
    "load_weights",
    "plain",
    "pose_before_and_after",
    "prune_constant",
    "replace",
    "score",
    "selection_by_size",
    "train",
    "watch",
    "write_report",
]

if TYPE_CHECKING:
    from foveal.analysing import excitation_by_class, pose_before_and_after, selection_by_size
    from foveal.auditing import audit
    from foveal.comparison.comparing import compare
    from foveal.comparison.report import write_report
    from foveal.data import load_data
    from foveal.deployment.deploying import deploy
    from foveal.deployment.exporting import export
    from foveal.drawing import draw
    from foveal.grad_cam import class_activation
    from foveal.mechanisms import list_mechanisms
    from foveal.networks import create_model, list_models
    from foveal.networks.loading import load_weights
    from foveal.pruning import prune_constant
    from foveal.record import Record, Tap
    from foveal.recording import watch
    from foveal.replacing import replace
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
