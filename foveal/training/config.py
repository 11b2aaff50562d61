"""Configuration of a run and of a comparison. This file imports no heavy library, since the command's help reads it."""

from dataclasses import dataclass, fields
from sys import float_info
from typing import Any

MOST = float_info.max
NEEDED = {int: "a whole number", float: "a number", bool: "true or false", str: "a string", str | None: "a string"}
GIVEN = {str: "a string", int: "a whole number", float: "a number with a point", bool: "true or false", list: "a list"}
SMALLEST, LARGEST = 8, 8192  # pixels, the side of an image: that of scikit-learn's digits, and of the largest file read
EPOCHS = 100_000  # each has a random stream, which no other seed of the run has
BATCH = 2**20  # images
SEEDS = 10_000
WORKERS = 1024  # processes
ALPHA = 100  # of mixup and cutmix
AMP_DTYPES = "bfloat16", "float16"
BY_RECIPE: Any = None  # default of a field whose value is that of the recipe


@dataclass(frozen=True)
class TrainConfig:
    """Training settings shared by all contenders of a comparison. Most names are those of timm's `train.py`.

    Attributes:
        data: Data set: digits, mnist or fashion-mnist, also distorted (digits/rts), kmnist, cifar10, cifar100;
            folder:PATH with images, IDX files or a .npz file of MedMNIST; a .csv file of image paths and labels, or a
            .json file of COCO's instances; wds/PATH with shards of WebDataset; hfds/NAME of Hugging Face; or a
            function, package.module:function.
        recipe: Named values of `epochs`, `lr` and `warmup_epochs`: scratch-small, scratch or finetune, see
            `foveal.training.recipes`. If left out, it is chosen by backbone and weights.
        epochs: Number of passes over the training part; if left out, as many as the recipe needs steps.
        batch_size: Number of images in a training step, of all processes and micro-batches together.
        grad_accum_steps: Number of micro-batches into which the images of a training step are divided, to save memory:
            their gradients are added up, so that steps, schedule and losses stay the same; BatchNorm takes its
            statistics from each micro-batch. In timm, `batch_size` is that of a micro-batch.
        opt: Optimizer, by timm's name.
        lr: Maximum learning rate; if left out, that of the recipe.
        weight_decay: Weight decay, not applied to biases, norms and other vectors.
        sched: Learning-rate schedule, by timm's name, updated after every batch.
        warmup_epochs: Number of epochs in which the learning rate increases to its maximum; if left out, that of the
            recipe.
        clip_grad: Norm of all gradients of a step to which a larger one is reduced; 0 disables it.
        smoothing: Label smoothing, 0 to below 1.
        aa: Policy of timm's automatic augmentation for image files, such as rand-m9-mstd0.5-inc1 or augmix-m3, instead
            of random colours.
        mixup: Parameter alpha of mixup; 0 disables it.
        cutmix: Parameter alpha of CutMix; 0 disables it. With both, a batch has one or the other.
        reprob: Probability that a random rectangle of an image is erased.
        class_weights: Weigh the loss of each class inversely to its number of training images; where an image has any
            number of classes, its images so that those with and those without it count the same.
        ema: Decay of the exponential moving average of the weights, which is then validated, tested and saved; 0
            disables it. The decay increases to this value during training, as in timm with warm-up, so that the
            average of a short run does not depend on the initial weights.
        amp: Train, validate and test with automatic mixed precision.
        amp_dtype: Type of numbers of `amp`: bfloat16, or float16, for which the loss is scaled.
        compile: Compile the network by torch.compile for training; validation and test run without, as prediction does.
        channels_last: Use the channels-last memory format, faster for convolutions on most machines.
        pretrained: Start from pretrained weights, with attention initialized as the identity.
        image_size: Side in pixels to which images of files are resized, 8 or more.
        groups: CSV file with lines image,group for image files; all images of a group are in the same part.
        workers: Number of processes that load images, for each process that trains.

    Raises:
        TypeError: If a value is of another type.
        ValueError: If a value is out of range or not finite, or `sched` is "plateau".

    Examples:
        >>> import foveal
        >>> foveal.TrainConfig(epochs=2).batch_size
        32
    """

    data: str = "digits/rts"
    recipe: str = BY_RECIPE
    epochs: int = BY_RECIPE
    batch_size: int = 32
    grad_accum_steps: int = 1
    opt: str = "adamw"
    lr: float = BY_RECIPE
    weight_decay: float = 0.05
    sched: str = "cosine"
    warmup_epochs: float = BY_RECIPE
    clip_grad: float = 0.0
    smoothing: float = 0.1
    aa: str | None = None
    mixup: float = 0.0
    cutmix: float = 0.0
    reprob: float = 0.0
    class_weights: bool = False
    ema: float = 0.0
    amp: bool = False
    amp_dtype: str = "bfloat16"
    compile: bool = False
    channels_last: bool = True
    pretrained: bool = False
    image_size: int = 224
    groups: str | None = None
    workers: int = 0

    def __post_init__(self) -> None:
        check_types(self)
        check_range(self, "epochs", 1, EPOCHS)
        check_range(self, "batch_size", 1, BATCH)
        check_range(self, "grad_accum_steps", 1, BATCH)
        check_range(self, "weight_decay", 0)
        check_range(self, "clip_grad", 0)
        check_range(self, "warmup_epochs", 0, EPOCHS)
        check_range(self, "image_size", SMALLEST, LARGEST)
        check_range(self, "workers", 0, WORKERS)
        if self.lr is not BY_RECIPE and not 0 < self.lr <= MOST:
            raise ValueError(f"lr={self.lr}: must be a finite number above 0")
        if self.sched == "plateau":
            raise ValueError("sched='plateau': depends on a metric; only schedules by step are possible, as 'cosine'")
        for name in ("mixup", "cutmix"):
            check_range(self, name, 0, ALPHA)
        check_range(self, "reprob", 0, 1)
        if (self.mixup or self.cutmix) and self.batch_size % 2:
            raise ValueError(f"batch_size={self.batch_size}: must be even, since mixup and cutmix mix pairs of images")
        if self.batch_size % self.grad_accum_steps:
            raise ValueError(
                f"batch_size={self.batch_size}: must be a multiple of grad_accum_steps={self.grad_accum_steps}, the "
                "number of micro-batches of a training step"
            )
        if self.amp_dtype not in AMP_DTYPES:
            raise ValueError(f"amp_dtype={self.amp_dtype!r:.80}: must be {' or '.join(AMP_DTYPES)}")
        if self.amp_dtype != AMP_DTYPES[0] and not self.amp:
            raise ValueError(f"amp_dtype={self.amp_dtype!r}: has no effect without amp; add --amp")
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"smoothing={self.smoothing}: must be at least 0 and below 1")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema={self.ema}: must be at least 0 and below 1")

    @property
    def micro_batch(self) -> int:
        """Number of images that are computed at the same time, in all processes together."""
        return self.batch_size // self.grad_accum_steps


@dataclass(frozen=True)
class CompareConfig(TrainConfig):
    """Configuration of a comparison: the shared recipe, and the fields below.

    Attributes:
        backbone: Name of a network, as for `foveal.create_model`, or a function, package.module:function.
        seed: First seed of the runs.
        seeds: Number of runs of each contender.
        tune: Number of learning-rate trials for each contender; 0 uses `lr` for all.
        resplit: Split the data anew for each seed, so that verdicts cover the choice of images, too. Data with a
            published test part is refused.
        baselines: Number of times that the baseline is trained for each seed, 1 or 2. The second one, with other
            initial weights, shows how much a network differs from itself. Below three seeds there is one.

    Raises:
        TypeError: If a value is of another type.
        ValueError: If a value is out of range.

    Examples:
        >>> import foveal
        >>> foveal.CompareConfig(data="digits", seeds=5).backbone
        'small_cnn'
    """

    backbone: str = "small_cnn"
    seed: int = 0
    seeds: int = 3
    tune: int = 0
    baselines: int = 2
    resplit: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, "seed", 0, SEEDS - 2)
        check_range(self, "seeds", 1, SEEDS - 1 - self.seed)  # the last seed is that of the trials
        check_range(self, "tune", 0, SEEDS - 1)
        check_range(self, "baselines", 1, 2)


@dataclass(frozen=True)
class RunConfig(TrainConfig):
    """Configuration of one training run: the recipe, and the fields below.

    Attributes:
        model: Name of a network or function, alone or with attention, such as resnet18+cbam.
        seed: Seed of the initial weights, the order of the images and their augmentation, 0 to 9,999.
        name: Name of the run; with the seed it determines the randomness within the network, such as dropout.
        copy: Number of a copy of the network, 0 to 9; each draws other initial weights. Its images stay the same.
        data_seed: Seed of the split and of the distortion, where foveal makes them.
        tensorboard: Write the figures of `metrics.jsonl` for TensorBoard, too, into `tensorboard` in the run folder.
        sync_bn: Take the statistics of BatchNorm from the images of all processes, where torchrun started several;
            otherwise each takes them from its own share of a batch, and the running ones are averaged each epoch.

    Raises:
        TypeError: If a value is of another type.
        ValueError: If a value is out of range.

    Examples:
        >>> import foveal
        >>> foveal.RunConfig(model="small_cnn+se", seed=1, epochs=6).epochs
        6
    """

    model: str = "small_cnn"
    seed: int = 0
    name: str = ""
    copy: int = 0
    data_seed: int = 0
    tensorboard: bool = False
    sync_bn: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, "data_seed", 0, SEEDS - 1)
        check_range(self, "copy", 0, 9)
        if not 0 <= self.seed < SEEDS:
            raise ValueError(f"seed={self.seed}: must be from 0 to 9,999")


def check_types(config: TrainConfig) -> None:
    """Check each field against its annotation; a whole number is accepted where a number is needed.

    Raises:
        TypeError: a value of another type.
    """
    for each in fields(config):
        value = getattr(config, each.name)
        if value is not each.default and not is_of_type(value, each.type):
            raise TypeError(wrong_type(each.name, value, each.type))


def is_of_type(value: Any, kind: Any) -> bool:
    """Return True if a value is of the type of a field; True and False are no numbers."""
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, int | float if kind is float else kind)


def wrong_type(name: str, value: Any, kind: Any) -> str:
    given = GIVEN.get(type(value), f"of the type {type(value).__name__}")
    return f"{name}={value!r:.80} is {given}; {NEEDED[kind]} is needed"


def check_range(config: TrainConfig, name: str, least: int, most: float = MOST) -> None:
    """Check that a number is within limits, both included.

    Raises:
        ValueError: it is not, or not finite.
    """
    value = getattr(config, name)
    if value is not BY_RECIPE and not least <= value <= most:
        limits = f"a finite number, {least} or more" if most == MOST else f"from {least:,} to {most:,}"
        raise ValueError(f"{name}={value}: must be {limits}")
