"""Data sets by name: `digits`, `mnist`, `fashion-mnist`, also distorted (`digits/rts`), digits in pairs to be added
(`digits/addition`); `kmnist`, `cifar10`, `cifar100`; `folder:PATH`, of image files, IDX files or a file of MedMNIST;
`labels.csv` or `instances.json`, a file that lists images with their classes; `wds/PATH`, `hfds/NAME` and `torch/NAME`,
as timm names its readers; the caller's own, `package.module:function`.
"""

from dataclasses import replace
from pathlib import Path

from foveal.core.functions import Function, import_function, name_of, names_function
from foveal.core.names import lookup, unknown_name_error
from foveal.data.distortions import DISTORTIONS
from foveal.data.parts import Data
from foveal.data.preprocessing import Preprocessing

DISTORTED = ("digits", "mnist", "fashion-mnist")
NAMES = (*DISTORTED, "kmnist", "cifar10", "cifar100")
LISTS = (".csv", ".json")  # endings of files that list image files with their classes
TORCH = {name.replace("-", "_"): name for name in NAMES[1:]}  # timm's names, after torch/
STREAMS = {
    "hfids": "hfds/ reads the same data from files on this machine",
    "tfds": "write its images to a folder, or return them from a function, package.module:function",
}
READERS = ("wds", "hfds", "torch", *STREAMS)


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
            whose sum is the class, `digits/addition`; `kmnist`; `cifar10` and `cifar100`, stored there too, whose
            training images are shifted and mirrored at random; or `folder:PATH`: one folder of images for each class,
            or such folders within `train`, `val` and `test` (see `foveal.data.layouts`), MNIST's four IDX files (see
            `foveal.data.idx`), or a file of MedMNIST (see `foveal.data.npz`). An existing path needs no `folder:`; it
            may be a `pathlib.Path`.
            `labels.csv`: paths of images with their classes (see `foveal.data.csv_file`), or `instances.json` of COCO
            (see `foveal.data.coco_file`).
            Or, as timm names its readers, `wds/PATH` (shards of WebDataset, see `foveal.data.shards`), `hfds/NAME` (a
            data set of Hugging Face, see `foveal.data.hugging_face`) or `torch/NAME` (one of the above of torchvision).
            Or a function, itself or as `package.module:function`, which is then imported, also from the current folder:
            it returns one Dataset or three (see `foveal.data.own`).
        image_size: side in pixels to which images of files are resized; IDX and npz files keep their own.
        groups: CSV file with lines `image,group`, for image files: a group stays in one part.
        seed: of the split and of the distortion, where foveal makes them; published parts stay as they are.
        preprocessing: of a folder's images, instead of `image_size` and timm's for ImageNet.
        value_range: values of 16-bit image files that become 0 and 255; if left out, the least and the largest value of
            the training part.
        decode: decode every image file of a folder now, to find those that are broken; otherwise their headers are
            read, once (see `foveal.data.examine_files`), and a broken one shows when it is used.

    Returns:
        The parts with uint8 images (B, C, H, W) and int64 labels (B,), or float ones (B, K) where an image has any
        number of classes (`.multi_label`), the class names, the preprocessing,
        `skipped` (files left out, with the reason) and `notes` (how files were read: transparent pixels over white,
        the first of several pages, the range of 16-bit values).

    Raises:
        ValueError: an unknown name; a distortion of photographs; a folder without images, with fewer than two
            classes, or whose layout does not tell its classes; IDX or npz files that are missing, broken or do not
            belong together; data that is not on this machine and cannot be downloaded; `groups` or `value_range` for
            data of another kind than image files; a function that cannot be imported or fails, or whose items are not
            understood; shards or tables that are missing or not understood; a stream, as `hfids/` and `tfds/` read it.
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
    if isinstance(spec, str) and names_reader(spec):
        refuse_unused(spec, groups, value_range if spec.startswith("torch/") else None)
        preprocessing = preprocessing or for_imagenet(image_size)
        ranged = replace(preprocessing, value_range=value_range or preprocessing.value_range)
        return load_by_timm_name(spec, ranged, seed, decode)
    path = Path(str(spec).removeprefix("folder:"))
    named = isinstance(spec, str) and (not spec or spec.partition("/")[0] in NAMES)
    is_path = isinstance(spec, Path) or spec.startswith("folder:") or path.exists() or path.suffix.lower() in LISTS
    if not named and is_path:
        return load_path(path, preprocessing or for_imagenet(image_size), groups, value_range, seed, decode)
    spec = str(spec)
    name, _, distortion = spec.partition("/")
    refuse_unused(spec, groups, value_range)
    from foveal.data.digits import ADDITION, load

    if name not in NAMES:
        raise unknown_name_error("data", name or spec, [*NAMES, "folder:PATH", "wds/PATH", "hfds/NAME"])
    if distortion:
        if name not in DISTORTED:
            raise ValueError(
                f"data {spec!r}: only {', '.join(DISTORTED)} are distorted, with the true transform and boxes"
            )
        lookup("distortion", distortion, {**DISTORTIONS, ADDITION: None})
    return load(name, distortion or None, seed)


def names_reader(spec: str) -> bool:
    """Return True for a name that begins with one of timm's readers, as `wds/PATH`."""
    reader, slash, _ = spec.partition("/")
    return bool(slash) and reader in READERS


def load_by_timm_name(spec: str, preprocessing: Preprocessing, seed: int, decode: bool) -> Data:
    """Load data by a name as timm has them: `wds/PATH`, `hfds/NAME`, `torch/NAME`."""
    from foveal.data.digits import load
    from foveal.data.hugging_face import list_table
    from foveal.data.shards import list_shards
    from foveal.data.splits_by_name import load_splits

    reader, _, name = spec.partition("/")
    if reader in STREAMS:
        raise ValueError(f"data {spec!r}: {reader} reads a stream, in which images have no order; {STREAMS[reader]}")
    if not name:
        raise ValueError(f"data {spec!r}: it names no data; write {reader}/NAME")
    if reader == "torch":
        return replace(load(lookup("data", name, TORCH), None, seed), name=spec)
    splits = list_shards(Path(name)) if reader == "wds" else list_table(name)
    return load_splits(spec, splits, preprocessing, seed, decode)


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
    """Load images that a file lists, a file of MedMNIST, a folder that holds one or IDX files, or folders of images."""
    from foveal.data.coco_file import list_coco
    from foveal.data.csv_file import list_csv
    from foveal.data.folder import load_folder, load_listing
    from foveal.data.idx import has_idx, load_idx
    from foveal.data.npz import find_npz, load_npz

    preprocessing = replace(preprocessing, value_range=value_range or preprocessing.value_range)
    if path.suffix.lower() in LISTS and not path.is_dir():
        listing = list_csv(path) if path.suffix.lower() == ".csv" else list_coco(path)
        return load_listing(str(path), listing, preprocessing, groups, seed, decode)
    file = find_npz(path)
    if file is None and not has_idx(path):
        return load_folder(path, preprocessing, groups, seed, decode)
    if groups:
        kind = "IDX files" if file is None else "a file of MedMNIST"
        raise ValueError(f"groups={str(groups)!r}: {str(path)!r} holds {kind}, which are split already")
    refuse_unused(str(path), None, value_range)
    return load_idx(path) if file is None else load_npz(path, file)


def refuse_unused(spec: str, groups: str | Path | None, value_range: tuple[float, float] | None) -> None:
    """Refuse arguments that only data of image files takes."""
    for name, value in (("groups", groups), ("value_range", value_range)):
        if value is not None:
            raise ValueError(f"{name}={str(value)!r}: {spec!r} is no data of image files, which alone takes {name}")


def for_imagenet(image_size: int) -> Preprocessing:
    """Return the preprocessing of timm's ImageNet networks, for images of `image_size` pixels a side."""
    from timm.data import DEFAULT_CROP_PCT, IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    return Preprocessing((3, image_size, image_size), IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, DEFAULT_CROP_PCT)
