"""Attributes and methods that timm's classifiers have, for the networks that foveal builds itself.

With them timm's training script, its feature extractors and the libraries that build on timm accept these networks.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from timm.models import checkpoint_seq
from torch import Tensor, nn
from torch.nn import functional as F


class TimmClassifier(nn.Module):
    """Base class of networks from images (B, C, H, W) to logits (B, num_classes).

    A subclass calls `set_head` and defines `forward_features`. Its `feature_info` lists the ends of its stages, as in
    timm; each is in `trunk` or a child of a Sequential in `trunk`.
    """

    classifier = "fc"  # name of the last layer
    pools: tuple[str, ...] = ("avg", "max", "")  # known values of `global_pool`; "" returns a map
    trunk: tuple[str, ...] = ()  # names of the children that `forward_features` runs, in order
    feature_info: Sequence[dict[str, Any]] = ()
    can_checkpoint = False  # True with stages of several blocks, which `run_stages` runs
    grad_checkpointing = False

    def set_head(
        self, num_features: int, num_classes: int, in_chans: int, *, global_pool: str = "avg", drop_rate: float = 0.0
    ) -> None:
        """Set the attributes of the head, and create the last layer, unless there is one for as many classes.

        Args:
            num_features: Channels of the output of `forward_features`.
            num_classes: Number of classes; 0 for no last layer.
            in_chans: Channels C of the images.
            global_pool: One of `pools`.
            drop_rate: Dropout before the last layer.

        Raises:
            ValueError: As `reset_classifier`.
        """
        self.num_features = self.head_hidden_size = num_features
        self.in_chans, self.drop_rate = in_chans, drop_rate
        if getattr(getattr(self, self.classifier, None), "out_features", None) == num_classes:
            self.set_pool(num_classes, global_pool)
        else:
            self.reset_classifier(num_classes, global_pool)

    def get_classifier(self, name_only: bool = False) -> nn.Module | str:
        """Return the last layer, or its name."""
        return self.classifier if name_only else self.get_submodule(self.classifier)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the last layer; with 0 classes the network returns the features before it.

        Args:
            num_classes: Number of classes.
            global_pool: One of `pools`; None keeps the pooling.

        Raises:
            ValueError: Another `global_pool`; "" with classes; `num_classes` below 0.
        """
        self.set_pool(num_classes, self.global_pool if global_pool is None else global_pool)
        like = next(self.parameters())
        layer: nn.Module = nn.Identity()
        if num_classes:
            layer = nn.Linear(self.head_hidden_size, num_classes, device=like.device, dtype=like.dtype)
        setattr(self, self.classifier, layer.train(self.training))

    def set_pool(self, num_classes: int, global_pool: str) -> None:
        """Check and set the number of classes and the pooling."""
        if global_pool not in self.pools:
            raise ValueError(
                f"global_pool={global_pool!r}: {type(self).__name__} has {', '.join(map(repr, self.pools))}"
            )
        if num_classes < 0 or (num_classes and not global_pool):
            raise ValueError(
                f"num_classes={num_classes}, global_pool={global_pool!r}: a pooling, or 0 classes, is needed"
            )
        self.num_classes, self.global_pool = num_classes, global_pool

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the activations of each stage in the backward pass, instead of keeping them.

        Raises:
            ValueError: The network has no stages of several blocks.
        """
        if enable and not self.can_checkpoint:
            raise ValueError(f"{type(self).__name__} has no stages of several blocks to checkpoint")
        self.grad_checkpointing = enable

    def run_stages(self, stages: Sequence[nn.Module], x: Tensor) -> Tensor:
        """Run stages in order, with gradient checkpointing if it is set."""
        if self.grad_checkpointing:
            return checkpoint_seq(list(stages), x)
        for stage in stages:
            x = stage(x)
        return x

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last map (B, num_features, H, W)."""
        raise NotImplementedError(f"{type(self).__name__} has no map from which its logits follow")

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the logits of the last map, or with `pre_logits` what the last layer receives."""
        if self.global_pool == "avg":
            x = x.mean((2, 3))
        elif self.global_pool == "max":
            x = x.amax((2, 3))
        if self.drop_rate > 0:
            x = F.dropout(x, self.drop_rate, self.training)
        return x if pre_logits else getattr(self, self.classifier)(x)

    def forward(self, x: Tensor) -> Any:
        return self.forward_head(self.forward_features(x))

    def finish(self, x: Tensor) -> Tensor:
        """Return the output of `forward_features` for the output of the last module of `trunk`."""
        return x

    def trunk_modules(self) -> Iterator[tuple[str, nn.Module]]:
        """Yield the modules of `trunk`, of which each end of a stage is one, with their names."""
        ends = [info["module"] for info in self.feature_info]
        for name in self.trunk:
            module = self.get_submodule(name)
            if any(end.startswith(f"{name}.") for end in ends):
                yield from ((f"{name}.{child}", part) for child, part in module.named_children())
            else:
                yield name, module

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Return the last map and the maps at the ends of stages, or these alone.

        Args:
            x: Images (B, C, H, W).
            indices: Indices in `feature_info`, or the number of last ones; None for all.
            norm: Without effect: the maps are those of the stages.
            stop_early: Stop after the last map that is returned.
            output_fmt: "NCHW".
            intermediates_only: Return the maps at the ends of stages alone.

        Raises:
            ValueError: Another `output_fmt`.
        """
        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt={output_fmt!r}: must be 'NCHW'")
        taken = taken_indices(len(self.feature_info), indices)
        wanted = {self.feature_info[index]["module"] for index in taken}
        maps = []
        for name, module in self.trunk_modules():
            x = self.run_stages([module], x)
            if name in wanted:
                maps.append(x)
            if stop_early and name == self.feature_info[max(taken)]["module"]:
                break
        else:
            x = x if intermediates_only else self.finish(x)
        return maps if intermediates_only else (x, maps)

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove the modules after the last of some ends of stages, and the last layer; return the ends' indices.

        The network then returns the last of these maps as `forward_intermediates` does. A norm after the last stage
        goes with that stage, or with `prune_norm`.
        """
        taken = taken_indices(len(self.feature_info), indices)
        end = self.feature_info[max(taken)]
        names = [name for name, _ in self.trunk_modules()]
        later = names[names.index(end["module"]) + 1 :]
        for name in later:
            parent, _, child = name.rpartition(".")
            setattr(self.get_submodule(parent), child, nn.Identity())
        if later:
            self.num_features = self.head_hidden_size = end["num_chs"]
        if prune_head or later:
            self.reset_classifier(0, "")
        return taken


def taken_indices(count: int, indices: int | Sequence[int] | None) -> list[int]:
    """Return the indices, counted from the first of `count`: all for None, the last ones for their number.

    Raises:
        ValueError: None is taken, or one that does not exist.
    """
    wanted = range(count) if indices is None else range(count - indices, count) if isinstance(indices, int) else indices
    taken = [index + count if not isinstance(indices, int) and index < 0 else index for index in wanted]
    if not taken or min(taken) < 0 or max(taken) >= count:
        raise ValueError(f"indices={indices!r}: the network has {count} ends of stages")
    return taken


def check_stages(name: str, values: Sequence[int]) -> None:
    """Raise ValueError for an option that is not a whole number of 1 or more for each of three stages."""
    whole = isinstance(values, tuple | list) and all(type(each) is int and each >= 1 for each in values)
    if not whole or len(values) != 3:
        raise ValueError(f"{name}={values!r:.80}: must be three whole numbers of 1 or more, one for each stage")
