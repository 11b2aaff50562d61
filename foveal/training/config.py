"""Configuration of a run and of a comparison. This file imports nothing heavy: the command's help reads it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainConfig:
    """How to train: all that the contenders of a comparison share. Names as timm's `train.py` has them.

    The defaults are those of the main job, `small_cnn` on digits/rts. Its learning rate was chosen once, on the plain
    network's validation error: 5.20, 5.03, 4.93 and 5.37 % at 0.005, 0.01, 0.02 and 0.04 (twelve epochs, means of six
    seeds, standard errors about 0.2); of the two that tie the lower one is kept.

    Attributes:
        data: digits, mnist or fashion-mnist, each also distorted (digits/rts), cifar10, or folder:PATH, of
            images or of IDX files.
        epochs: Passes over the training part.
        batch_size: Images in a step.
        opt: An optimizer by timm's name.
        lr: The highest learning rate; the default suits a small network trained from scratch.
        weight_decay: Not on biases, norms and other vectors.
        sched: A schedule by timm's name, stepped with every batch.
        warmup_epochs: In which the learning rate rises.
        smoothing: Of the labels.
        ema: Decay of the weights' moving average, which is then validated, tested and kept; 0 is off. It rises to this
            with the steps, as timm's with a warm-up, so that a short run's average forgets its start.
        amp: bfloat16 where it is safe.
        channels_last: The layout of images in memory; faster for convolutions on most machines.
        pretrained: Start from pretrained weights, attention at the identity.
        image_size: Side in pixels to which a folder's images are brought.
        groups: For a folder of images: a CSV file of image,group; a group stays in one part.
        workers: Processes that load images.
    """

    data: str = "digits/rts"
    epochs: int = 6
    batch_size: int = 32
    opt: str = "adamw"
    lr: float = 1e-2
    weight_decay: float = 0.05
    sched: str = "cosine"
    warmup_epochs: float = 1.0
    smoothing: float = 0.1
    ema: float = 0.0
    amp: bool = False
    channels_last: bool = True
    pretrained: bool = False
    image_size: int = 224
    groups: str | None = None
    workers: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "lr", "image_size"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}={getattr(self, name)}: a number above 0 is needed")
        if self.sched == "plateau":
            raise ValueError("sched='plateau': it follows a figure; the schedules here follow the step")
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"smoothing={self.smoothing}: from 0 to below 1")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema={self.ema}: from 0 to below 1")


@dataclass(frozen=True)
class CompareConfig(TrainConfig):
    """A comparison.

    Attributes:
        backbone: Any network's name, as `foveal.create_model` takes it.
        seeds: How many runs of each contender.
        tune: Trials by which the learning rate of each contender is searched for; 0 takes `lr` for all.
    """

    backbone: str = "small_cnn"
    seeds: int = 3
    tune: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("seeds", 1), ("tune", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)}: {least} or more")


@dataclass(frozen=True)
class RunConfig(TrainConfig):
    """A run.

    Attributes:
        model: A network by name, alone or with attention, as resnet18+cbam.
        seed: Of the weights, the order of the images and their augmentation.
        name: Of the run; with the seed it gives what is random within the network, as dropout.
    """

    model: str = "small_cnn"
    seed: int = 0
    name: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.seed < 10_000:
            raise ValueError(f"seed={self.seed}: from 0 to 9,999")
