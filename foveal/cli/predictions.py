"""The subcommand predict."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from foveal.cli.console import OutputPath, print_remarks, progress
from foveal.core.files import check_new

if TYPE_CHECKING:
    from foveal.training.predict import PredictedBatch


def predict(
    model: str,
    *images: str,
    output: Annotated[Path, OutputPath] = Path("predictions.csv"),
    overwrite: bool = False,
    top: int = 1,
    workers: int = 0,
    pictures: Annotated[Path | None, OutputPath] = None,
    backbone: str | None = None,
) -> None:
    """Predict the classes of images, and write a CSV file with a line for each.

    Parameters
    ----------
    model
        A run folder, a checkpoint, or a network's name.
    images
        Image files, and folders with image files at any depth; or a data set (digits, folder:PATH with a folder for
        each class), whose test part is predicted, with the true classes in a column.
    output
        The CSV file: image, predicted, probability; of a multi-label network image, predicted (the classes with a
        probability above 0.5, separated by |), and the probability of each class.
    overwrite
        Replace the file, and pictures.
    top
        The number of most probable classes in a line.
    workers
        Number of processes that read image files.
    pictures
        A folder for a picture of each image with what the network attends to.
    backbone
        The function that builds the network, package.module:function, where the run's backbone is one.
    """
    from foveal.reports.prediction_pictures import PredictionPictures
    from foveal.training.load_model import load_on_device
    from foveal.training.predict_file import predict_to_file

    if not images:
        raise ValueError("images: none named; name image files, a folder, or a data set")
    check_new(output, overwrite)
    opened = load_on_device(model, backbone)
    drawn = PredictionPictures(opened, pictures, overwrite) if pictures else None

    with progress("predicting") as report_progress:

        def on_batch(batch: "PredictedBatch", number: int, of: int) -> None:
            if drawn:
                drawn.draw(batch)
            report_progress(number, of)

        done = predict_to_file(
            opened, images, output, top=top, workers=workers, answer=drawn.answer if drawn else None, on_batch=on_batch
        )
    print_remarks(done.skipped, done.notes)
    if done.right is not None:
        print(f"{done.right:,} of {done.images:,} right, accuracy {100 * done.right / done.images:.2f} %")
    if done.mean_average_precision is not None:
        print(f"{done.images:,} images, mAP {100 * done.mean_average_precision:.2f} %")
    print(*([pictures] if pictures else []), done.path, sep="\n")
