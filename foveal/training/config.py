"""Configuration of a run and of a comparison. This file imports no heavy library, since the command's help reads it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainConfig:
    """Training recipe shared by all contenders of a comparison. Most names are those of timm's `train.py`.

    The defaults are for `small_cnn` on digits/rts. The learning rate was selected once, on the validation error of the
    plain network: 5.20, 5.03, 4.93 and 5.37 % at 0.005, 0.01, 0.02 and 0.04 (twelve epochs, means over six seeds,
    standard errors about 0.2); the lower one of the two best, which do not differ, is the default.

    Attributes:
        data: Data set: digits, mnist or fashion-mnist, also distorted (digits/rts), cifar10, or folder:PATH with
            images, IDX files or a .npz file of MedMNIST.
        epochs: Number of passes over the training part.
        batch_size: Number of images in a training step.
        opt: Optimizer, by timm's name.
        lr: Maximum learning rate; the default suits a small network trained from scratch.
        weight_decay: Weight decay, not applied to biases, norms and other vectors.
        sched: Learning-rate schedule, by timm's name, updated after every batch.
        warmup_epochs: Number of epochs in which the learning rate increases to its maximum.
        smoothing: Label smoothing, 0 to below 1.
        ema: Decay of the exponential moving average of the weights, which is then validated, tested and saved; 0
            disables it. The decay increases to this value during training, as in timm with warm-up, so that the
            average of a short run does not depend on the initial weights.
        amp: Train with automatic mixed precision in bfloat16.
        channels_last: Use the channels-last memory format, faster for convolutions on most machines.
        pretrained: Start from pretrained weights, with attention initialized as the identity.
        image_size: Side in pixels to which the images of a folder are resized.
        groups: CSV file with lines image,group for a folder of images; all images of a group are in the same part.
        workers: Number of processes that load images.

    Raises:
        ValueError: If a value is out of range, or `sched` is "plateau".

    Examples:
        >>> import foveal
        >>> foveal.TrainConfig(epochs=2).lr
        0.01
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
                raise ValueError(f"{name}={getattr(self, name)}: must be above 0")
        if self.sched == "plateau":
            raise ValueError("sched='plateau': depends on a metric; only schedules by step are possible, as 'cosine'")
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"smoothing={self.smoothing}: must be at least 0 and below 1")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema={self.ema}: must be at least 0 and below 1")


@dataclass(frozen=True)
class CompareConfig(TrainConfig):
    """Configuration of a comparison: the shared recipe, and the fields below.

    Attributes:
        backbone: Name of a network, as for `foveal.create_model`.
        seeds: Number of runs of each contender.
        tune: Number of learning-rate trials for each contender; 0 uses `lr` for all.

    Raises:
        ValueError: If a value is out of range.

    Examples:
        >>> import foveal
        >>> foveal.CompareConfig(data="digits", seeds=5).backbone
        'small_cnn'
    """

    backbone: str = "small_cnn"
    seeds: int = 3
    tune: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("seeds", 1), ("tune", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)}: must be {least} or more")


@dataclass(frozen=True)
class RunConfig(TrainConfig):
    """Configuration of one training run: the recipe, and the fields below.

    Attributes:
        model: Name of a network, alone or with attention, such as resnet18+cbam.
        seed: Seed of the initial weights, the order of the images and their augmentation, 0 to 9,999.
        name: Name of the run; with the seed it determines the randomness within the network, such as dropout.

    Raises:
        ValueError: If a value is out of range.

    Examples:
        >>> import foveal
        >>> foveal.RunConfig(model="small_cnn+se", seed=1).epochs
        6
    """

    model: str = "small_cnn"
    seed: int = 0
    name: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.seed < 10_000:
            raise ValueError(f"seed={self.seed}: must be from 0 to 9,999")
