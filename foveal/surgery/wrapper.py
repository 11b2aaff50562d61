"""Wrapper of a module of the network and the mechanisms attached to it.

Paths and names of weights stay those of the plain network: the wrapper has the host's parameters and buffers as its
own, and lists the host's children as its children. Layer-wise learning rates, lists of weights without decay, paths of
features and checkpoints therefore keep their meaning. The host itself is the child `host`, without names of its own, so
that conversions of a BatchNorm reach it and replace only it.

A path thus names the wrapper where the host was. What is read, set, deleted or registered there is the host's, except
private attributes, which torch and other tools give to one object. `unwrapped` returns the host itself.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from foveal.mechanisms.cbam import CBAM, SpatialGate
from foveal.mechanisms.squeeze_excite import SqueezeExcite
from foveal.ops.fast_path import can_write_in_place

FRESH_OUTPUT = (nn.Conv2d, nn.BatchNorm2d)  # their output aliases neither input nor state


IN_PLACE = (SqueezeExcite, CBAM, SpatialGate)  # exactly these classes: the forward of a subclass may do more


class FromHost:
    """Attribute of a wrapper that is always the host's; what `nn.Module` sets on the wrapper is dropped."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, wrapper: Any, owner: type | None = None) -> Any:
        return self if wrapper is None else getattr(wrapper._modules["host"], self.name)

    def __set__(self, wrapper: Any, value: Any) -> None:
        pass


class Attached(nn.Module):
    """Module of a network and attached mechanisms, run in order.

    The module receives all arguments of the call, and its attributes are read and set through the wrapper.
    """

    _parameters: Any = FromHost()
    _buffers: Any = FromHost()
    _non_persistent_buffers_set: Any = FromHost()

    def __init__(self, parts: OrderedDict[str, nn.Module]):
        super().__init__()
        self._modules.update(parts)  # add_module adds to the host
        self.training = self._modules["host"].training  # type: ignore[union-attr]
        self._register_state_dict_hook(drop_host_from_names)

    def __getattr__(self, name: str) -> Any:
        modules = self.__dict__.get("_modules", {})
        if name in modules:
            return modules[name]
        if "host" not in modules:
            raise AttributeError(name)
        return getattr(modules["host"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        if self._is_own(name):
            super().__setattr__(name, value)
        else:
            setattr(self._modules["host"], name, value)

    def __delattr__(self, name: str) -> None:
        if self._is_own(name):
            super().__delattr__(name)
        else:
            delattr(self._modules["host"], name)

    def _is_own(self, name: str) -> bool:
        """Return True for an attribute of the wrapper itself; before it has a host, for every one."""
        modules = self.__dict__.get("_modules", {})
        own = name in self.__dict__ or name in modules or hasattr(type(self), name)
        return own or name.startswith("_") or "host" not in modules

    def add_module(self, name: str, module: nn.Module | None) -> None:
        """Add a child to the host, or put another one in the place of the host or of a mechanism."""
        if name in self._modules:
            super().add_module(name, module)
        else:
            self.host.add_module(name, module)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a buffer to the host."""
        self.host.register_buffer(name, tensor, persistent)

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """Add a parameter to the host."""
        self.host.register_parameter(name, param)

    def named_modules(
        self, memo: set[nn.Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Module]]:
        """Yield modules with the host's children under the paths that they have in the plain network.

        The host itself comes last, and not at all with duplicates: its weights are the wrapper's.
        """
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        at = f"{prefix}." if prefix else ""
        host = self._modules["host"]
        for name, module in self._modules.items():
            for key, child in host._modules.items() if module is host else [(name, module)]:  # type: ignore[union-attr]
                if child is not None:
                    yield from child.named_modules(memo, f"{at}{key}", remove_duplicate)
        if remove_duplicate and host is not None and host not in memo:
            memo.add(host)
            yield f"{at}host", host

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
        """Pass weights under the host's plain names on to the host, which is loaded next."""
        for key in [key for key in state_dict if key.startswith(prefix)]:
            name = key.removeprefix(prefix)
            if name.partition(".")[0] not in self._modules:
                state_dict[f"{prefix}host.{name}"] = state_dict.pop(key)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        x: Any = None
        maker: nn.Module | None = None  # the module that returned `x`, if its output is fresh
        ran = False
        module: Any
        for name, module in self._modules.items():
            if name == "host":
                x, ran = module(*args, **kwargs), True
            elif not ran:
                args = (module(args[0]), *args[1:])
                continue
            elif maker is not None and type(module) in IN_PLACE and can_write_in_place(x, maker, module):
                x = module.forward_(x)
                continue
            else:
                x = module(x)
            maker = module if type(module) in FRESH_OUTPUT else None
        return x


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the host of a wrapper, or the module itself."""
    return module.get_submodule("host") if isinstance(module, Attached) else module


def drop_host_from_names(wrapper: nn.Module, state: Any, prefix: str, _: Any) -> None:
    """State-dict hook that gives the host's weights their plain names, in order."""
    path = f"{prefix}host"
    for key in [key for key in state if key.startswith(prefix)]:
        value = state.pop(key)
        state.setdefault(prefix + key.removeprefix(f"{path}.") if key.startswith(f"{path}.") else key, value)
    versions = getattr(state, "_metadata", {})
    for key in [key for key in versions if key == path or key.startswith(f"{path}.")]:
        versions[(prefix + key.removeprefix(path).removeprefix(".")).removesuffix(".")] = versions[key]
