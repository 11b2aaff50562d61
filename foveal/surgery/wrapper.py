"""Wrapper of a module of the network and the mechanism attached to it."""

from collections import OrderedDict
from typing import Any

from torch import nn

from foveal.mechanisms.cbam import CBAM, SpatialGate
from foveal.mechanisms.squeeze_excite import SqueezeExcite
from foveal.ops.fast_path import can_write_in_place

FRESH_OUTPUT = (nn.Conv2d, nn.BatchNorm2d)  # their output aliases neither input nor state


IN_PLACE = (SqueezeExcite, CBAM, SpatialGate)  # exactly these classes: the forward of a subclass may do more


class Attached(nn.Sequential):
    """Module of a network and an attached mechanism, run in order.

    The module receives all arguments of the call, and its attributes are read and set through the wrapper.
    """

    def __init__(self, parts: OrderedDict[str, nn.Module]):
        super().__init__()
        self._modules.update(parts)  # add_module refuses a name that is also an attribute of the host

    def __getattr__(self, name: str) -> Any:
        modules = self.__dict__.get("_modules", {})
        if name in modules:
            return modules[name]
        if "host" not in modules:
            raise AttributeError(name)
        return getattr(modules["host"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        modules = self.__dict__.get("_modules", {})
        own = name in self.__dict__ or name in modules or hasattr(type(self), name)
        if own or not hasattr(modules.get("host"), name):
            super().__setattr__(name, value)
        else:
            setattr(modules["host"], name, value)

    def forward(self, input: Any, *args: Any, **kwargs: Any) -> Any:  # named `input` as in Sequential
        maker: nn.Module | None = None  # the module that returned `input`, if its output is fresh
        module: Any
        for name, module in self._modules.items():
            if maker is not None and type(module) in IN_PLACE and can_write_in_place(input, maker, module):
                input = module.forward_(input)
            else:
                input = module(input, *args, **kwargs) if name == "host" else module(input)
                maker = module if type(module) in FRESH_OUTPUT else None
        return input
