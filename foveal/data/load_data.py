"""Data sets by name: `digits`, `mnist`, `fashion-mnist`, also distorted (`digits/rts`), digits in pairs to be added
(`digits/addition`); `cifar10`; `folder:PATH`, of image files, IDX files or a file of MedMNIST; the caller's own,
`package.module:function`.
"""

from dataclasses import replace
from pathlib import Path

from foveal.core.functions import Function, import_function, name_of, names_function
from foveal.core.names import lookup, unknown_name_error
from foveal.data.distortions import DISTORTIONS
from foveal.data.parts import Data
from foveal.data.preprocessing import Preprocessing

DISTORTED = ("digits", "mnist", "fashion-mnist")
NAMES = (*DISTORTED, "cifar10")


def load_data(
    spec: str | Path | Function,
    *,
    image_size: int = 224,
    groups: str | Path | None = None,
    seed: int = 0,
    preprocessing: Preprocessing | None = None,
    value_range: tuple[float, float] | None = None,
    decode: bool = False,
) -> Data:
    """Load a data set in three parts: train, validation and test.

    Args:
        spec: `digits` (5,000 MNIST digits, no network needed), `mnist`, `fashion-mnist` (through torchvision, stored in
            the folder that FOVEAL_DATA names), each also with a distortion, as `digits/rts`, or with digits in pairs
            whose sum is the class, `digits/addition`; `cifar10`, stored there too, whose training images are shifted
            and mirrored at random; or `folder:PATH`: one folder of images for each class, or such folders within
            `train`, `val` and `test` (see `foveal.data.layouts`), MNIST's four IDX files (see `foveal.data.idx`), or
            a file of MedMNIST (see `foveal.data.npz`). An existing path needs no `folder:`; it may be a `pathlib.Path`.
            Or a function, itself or as `package.module:function`, which is then imported, also from the current folder:
            it returns one Dataset or three (see `foveal.data.own`).
        image_size: side in pixels to which a folder's images are resized; IDX and npz files keep their own.
        groups: CSV file with lines `image,group`, for a folder of images: a group stays in one part.
        seed: of the split and of the distortion, where foveal makes them; published parts stay as they are.
        preprocessing: of a folder's images, instead of `image_size` and timm's for ImageNet.
        value_range: values of 16-bit image files that become 0 and 255; if left out, the least and the largest value of
            the training part.
        decode: decode every image file of a folder now, to find those that are broken; otherwise their headers are
            read, once (see `foveal.data.examine_files`), and a broken one shows when it is used.

    Returns:
        The parts with uint8 images (B, C, H, W) and int64 labels (B,), the class names, the preprocessing,
        `skipped` (files left out, with the reason) and `notes` (how files were read: transparent pixels over white,
        the first of several pages, the range of 16-bit values).

    Raises:
        ValueError: an unknown name; a distortion of photographs; a folder without images, with fewer than two
            classes, or whose layout does not tell its classes; IDX or npz files that are missing, broken or do not
            belong together; data that is not on this machine and cannot be downloaded; `groups` or `value_range` for
            data that is no folder of images; a function that cannot be imported or fails, or whose items are not
            understood.
        TypeError: a function without a name.

    Example:
        >>> import foveal
        >>> data = foveal.load_data("digits")
        >>> data.shape, len(data.train), len(data.validation), len(data.test)
        ((1, 28, 28), 3000, 500, 1500)
    """
    if value_range is not None and not value_range[0] < value_range[1]:
        raise ValueError(f"value_range={value_range}: the first number must be below the second")
    if callable(spec) or (isinstance(spec, str) and names_function(spec)):
        return load_function(import_function(spec) if isinstance(spec, str) else spec, groups, value_range, seed)
    path = Path(str(spec).removeprefix("folder:"))
    named = isinstance(spec, str) and (not spec or spec.partition("/")[0] in NAMES)
    if not named and (isinstance(spec, Path) or spec.startswith("folder:") or path.exists()):
        return load_path(path, preprocessing or for_imagenet(image_size), groups, value_range, seed, decode)
    spec = str(spec)
    name, _, distortion = spec.partition("/")
    refuse_unused(spec, groups, value_range)
    from foveal.data.digits import ADDITION, load

    if name not in NAMES:
        raise unknown_name_error("data", name or spec, [*NAMES, "folder:PATH"])
    if distortion:
        if name not in DISTORTED:
            raise ValueError(
                f"data {spec!r}: only {', '.join(DISTORTED)} are distorted, with the true transform and boxes"
            )
        lookup("distortion", distortion, {**DISTORTIONS, ADDITION: None})
    return load(name, distortion or None, seed)


def load_function(
    function: Function, groups: str | Path | None, value_range: tuple[float, float] | None, seed: int
) -> Data:
    from foveal.data.own import load_own

    refuse_unused(name_of(function), groups, value_range)
    return load_own(function, seed)


def load_path(
    path: Path,
    preprocessing: Preprocessing,
    groups: str | Path | None,
    value_range: tuple[float, float] | None,
    seed: int,
    decode: bool,
) -> Data:
    """Load a file of MedMNIST, a folder that holds one or IDX files, or a folder of images."""
    from foveal.data.folder import load_folder
    from foveal.data.idx import has_idx, load_idx
    from foveal.data.npz import find_npz, load_npz

    file = find_npz(path)
    if file is None and not has_idx(path):
        preprocessing = replace(preprocessing, value_range=value_range or preprocessing.value_range)
        return load_folder(path, preprocessing, groups, seed, decode)
    if groups:
        kind = "IDX files" if file is None else "a file of MedMNIST"
        raise ValueError(f"groups={str(groups)!r}: {str(path)!r} holds {kind}, which are split already")
    refuse_unused(str(path), None, value_range)
    return load_idx(path) if file is None else load_npz(path, file)


def refuse_unused(spec: str, groups: str | Path | None, value_range: tuple[float, float] | None) -> None:
    """Refuse arguments that only a folder of images takes."""
    for name, value in (("groups", groups), ("value_range", value_range)):
        if value is not None:
            raise ValueError(f"{name}={str(value)!r}: {spec!r} is no folder of image files, which alone takes {name}")


def for_imagenet(image_size: int) -> Preprocessing:
    """Return the preprocessing of timm's ImageNet networks, for images of `image_size` pixels a side."""
    from timm.data import DEFAULT_CROP_PCT, IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    return Preprocessing((3, image_size, image_size), IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, DEFAULT_CROP_PCT)
