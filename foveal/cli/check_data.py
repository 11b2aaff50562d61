"""The subcommand check-data."""

from pathlib import Path

from foveal.cli.console import print_remarks, print_table
from foveal.training.config import RunConfig


def check_data(data: str, *, image_size: int = RunConfig.image_size, groups: Path | None = None) -> None:
    """Read every image of a data set, and print what train would do with it: parts, classes, files left out.

    Parameters
    ----------
    data
        A folder with a folder of images for each class, or another data set, as for train.
    image_size
        Side in pixels to which image files are resized.
    groups
        CSV file with lines image,group for image files.
    """
    from foveal.data.load_data import load_data
    from foveal.data.summary import describe, table

    loaded = load_data(data, image_size=image_size, groups=groups, decode=True)
    print_remarks(loaded.skipped, loaded.remarks)
    rows, remark = table(loaded)
    print_table(("class", "training", "validation", "test"), rows)
    for line in [*remark, *describe(loaded)]:
        print(line)
