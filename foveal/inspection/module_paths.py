"""Paths of a model's modules, without the prefixes that wrappers add."""

from torch import nn


def unwrapped_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Return modules by path, without the prefixes that wrappers add."""
    wrapped = isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel)
    split = [(path.split(".")[wrapped:], module) for path, module in model.named_modules()]
    return {".".join(name for name in names if name != "_orig_mod"): module for names, module in split}


def nearest(path: str, modules: dict[str, nn.Module]) -> str:
    """Return the path of the module that a place belongs to: its own, or that of the nearest one around it."""
    while path not in modules:
        path = path.rpartition(".")[0]
    return path


def innermost(model: nn.Module) -> nn.Module:
    """Return the module that wrappers around a whole model hold."""
    while True:
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        elif isinstance(getattr(model, "_orig_mod", None), nn.Module):
            model = model._orig_mod  # type: ignore[assignment]
        else:
            return model
