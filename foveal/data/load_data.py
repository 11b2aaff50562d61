"""Data sets by name: `digits`, `mnist`, `fashion-mnist`, also distorted (`digits/rts`), digits in pairs to be added
(`digits/addition`); `cifar10`; `folder:PATH`, of images or of IDX files.
"""

from pathlib import Path

from foveal.core.names import lookup, unknown_name_error
from foveal.data.distortions import DISTORTIONS
from foveal.data.parts import Data
from foveal.data.preprocessing import Preprocessing

DISTORTED = ("digits", "mnist", "fashion-mnist")
NAMES = (*DISTORTED, "cifar10")


def load_data(
    spec: str | Path,
    *,
    image_size: int = 224,
    groups: str | Path | None = None,
    seed: int = 0,
    preprocessing: Preprocessing | None = None,
) -> Data:
    """A data set in three parts.

    Args:
        spec: `digits` (5,000 MNIST digits, no network needed), `mnist`, `fashion-mnist` (through torchvision, kept in
            the folder that FOVEAL_DATA names), each also with a distortion, as `digits/rts`, or with digits in pairs
            whose sum is the class, `digits/addition`; `cifar10`, kept there too, whose training images are shifted and
            mirrored at random; or `folder:PATH`, one folder of images a class, or such folders within `train`, `val`
            and `test`, or MNIST's four IDX files (see `foveal.data.idx`). A path that is there needs no `folder:`.
        image_size: side in pixels to which a folder's images are brought; IDX files keep their own.
        groups: for a folder of images: a CSV file with lines `image,group`; a group stays in one part.
        preprocessing: of a folder's images, instead of `image_size` and timm's for ImageNet.
        seed: of the distortion. The split has a seed of its own, which is fixed.

    Raises:
        ValueError: an unknown name; a distortion of photographs; a folder without images or with fewer than two
            classes; IDX files that are missing, broken or do not belong together; data that is not here and cannot be
            fetched.
    """
    spec = str(spec)
    name, _, distortion = spec.partition("/")
    if spec.startswith("folder:") or (name not in NAMES and Path(spec).is_dir()):
        return load_path(Path(spec.removeprefix("folder:")), preprocessing or for_imagenet(image_size), groups)
    from foveal.data.digits import ADDITION, load

    if name not in NAMES:
        raise unknown_name_error("data", name or spec, [*NAMES, "folder:PATH"])
    if distortion:
        if name not in DISTORTED:
            raise ValueError(
                f"data {spec!r}: only {', '.join(DISTORTED)} are distorted, with the truth of what is drawn"
            )
        lookup("distortion", distortion, {**DISTORTIONS, ADDITION: None})
    return load(name, distortion or None, seed)


def load_path(root: Path, preprocessing: Preprocessing, groups: str | Path | None) -> Data:
    """A folder of IDX files where it holds one, else of images."""
    from foveal.data.folder import load_folder
    from foveal.data.idx import has_idx, load_idx

    if not has_idx(root):
        return load_folder(root, preprocessing, groups)
    if groups:
        raise ValueError(f"groups={str(groups)!r}: {str(root)!r} holds IDX files, which are split already")
    return load_idx(root)


def for_imagenet(image_size: int) -> Preprocessing:
    """The preprocessing of timm's ImageNet networks, at a side in pixels."""
    from timm.data import DEFAULT_CROP_PCT, IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    return Preprocessing((3, image_size, image_size), IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, DEFAULT_CROP_PCT)
