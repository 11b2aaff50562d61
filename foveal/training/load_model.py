"""Trained networks by name: a run folder, a checkpoint, or a network's name."""

from collections.abc import Mapping
from pathlib import Path

from accelerate import Accelerator
from timm.data import resolve_model_data_config
from torch import Tensor, nn

from foveal.core.functions import Function, import_function, names_function
from foveal.data.preprocessing import Preprocessing
from foveal.networks.factory import create_model
from foveal.training.checkpoint import load_checkpoint
from foveal.training.loaded_model import LoadedModel
from foveal.training.run_facts import InferenceSettings
from foveal.training.stored_split import stored_split

FACTS = ("classes", "preprocessing")  # of a checkpoint that `foveal.train` wrote


def load_model(model: str | Path, backbone: str | Function | None = None) -> LoadedModel:
    """Load a network in evaluation mode from a run folder, a checkpoint, or a network's name.

    Args:
        model: the folder, file or name; a network by name has no classes, and no weights of a run.
        backbone: the caller's function, or its name, which is then imported, where the run's backbone is a function.

    Raises:
        ValueError: no such network; a file that is no checkpoint, one that `foveal.train` did not write, or one with
            weights that are not finite; a run whose backbone is a function without `backbone`, or another one with it.

    Returns:
        The network (`.network`) with its run's classes and preprocessing; `.predict(images)` predicts files, folders,
        images of Pillow, pixels or loaders, `.load_data(spec)` loads a data set with the run's classes.

    Example:
        >>> import foveal, tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> root = Path(tempfile.mkdtemp())
        >>> for index in range(12):
        ...     folder = root / "photos" / ("black", "white")[index % 2]
        ...     folder.mkdir(parents=True, exist_ok=True)
        ...     Image.new("L", (16, 16), 255 * (index % 2)).save(folder / f"{index}.png")
        >>> config = foveal.RunConfig(data=f"folder:{root}/photos", image_size=16, epochs=1, batch_size=4)
        >>> result = foveal.train(config, root / "run")
        >>> loaded = foveal.load_model(root / "run")
        >>> loaded.classes
        ['black', 'white']
        >>> predicted = loaded.predict(root / "photos/black")
        >>> len(predicted), tuple(predicted.probabilities.shape)
        (6, (6, 2))
    """
    model = str(model)
    if isinstance(backbone, str):
        backbone = import_function(backbone)
    if Path(model).exists():
        network, checkpoint = load_checkpoint(model, backbone)
        check_finite(checkpoint.weights, model)
        facts = checkpoint.facts
        missing = [name for name in FACTS if name not in facts]
        if missing:
            raise ValueError(f"checkpoint {model!r} stores no {' and no '.join(missing)}; foveal.train writes them")
        preprocessing = Preprocessing.from_facts(facts["preprocessing"])
        place = Path(model) if Path(model).is_dir() else Path(model).parent
        return LoadedModel(
            network,
            facts["classes"],
            preprocessing,
            groups=facts.get("groups"),
            data=facts.get("data"),
            split=stored_split(place),
            data_seed=facts.get("data_seed", 0),
            inference=InferenceSettings.from_facts(facts),
            multi_label=facts.get("multi_label", False),
        )
    if backbone is not None or names_function(model):
        raise ValueError(f"{model!r}: no run; a function builds the network of a run, as RUN --backbone {model}")
    network = create_model(model).eval()
    return LoadedModel(network, (), preprocessing_of(network))


def load_on_device(model: str | Path, backbone: str | Function | None = None) -> LoadedModel:
    """Load a network as `load_model` does, on the device that accelerate chooses: a GPU where there is one."""
    opened = load_model(model, backbone)
    opened.network.to(Accelerator().device)
    return opened


def check_finite(weights: Mapping[str, Tensor], path: str | Path) -> None:
    """Refuse weights that are NaN or infinite.

    Raises:
        ValueError: the first tensor that holds such a number, by name.
    """
    for name, weight in weights.items():
        if weight.is_floating_point() and not weight.isfinite().all():
            count = int((~weight.isfinite()).sum())
            raise ValueError(
                f"checkpoint {str(path)!r}: the tensor {name!r} holds {count:,} of {weight.numel():,} numbers that are "
                "NaN or infinite; train again"
            )


def preprocessing_of(network: nn.Module) -> Preprocessing:
    """Return the preprocessing that a network of timm states; (3, 224, 224) scaled to [-1, 1] if it states none."""
    if not getattr(network, "pretrained_cfg", None):
        return Preprocessing((3, 224, 224), (0.5,) * 3, (0.5,) * 3)
    stated = resolve_model_data_config(network)
    return Preprocessing(
        stated["input_size"], stated["mean"], stated["std"], stated["crop_pct"], stated["interpolation"]
    )
