"""Panel of the images with their predictions, for sheets whose other panels show no image."""

from math import ceil

from matplotlib.figure import SubFigure

from foveal.inspection.drawing.canvas import Sheet, show_captioned


def images_height(sheet: Sheet) -> float:
    """Return the height of the images in inches."""
    return 0.1 + ceil(len(sheet.images) / sheet.across) * sheet.height


def draw_images(part: SubFigure, sheet: Sheet) -> None:
    """Draw each image with its prediction, several in a row."""
    axes = part.subplots(ceil(len(sheet.images) / sheet.across), sheet.across, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for index, axis in enumerate(axes[: len(sheet.images)]):
        show_captioned(axis, sheet, index)
