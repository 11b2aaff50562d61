"""Subcommands on a trained network: look, audit, score, export."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from foveal.cli.console import OutputPath, print_remarks, progress, result_path
from foveal.core.files import check_replaceable, write_file

Output = Annotated[Path, OutputPath]


def look(
    model: str,
    *images: str,
    output: Output = Path("look.png"),
    overwrite: bool = False,
    most: int = 6,
    boxes: Path | None = None,
    opacity: float = 0.6,
    backbone: str | None = None,
) -> None:
    """Draw what a network attends to, and write a page to browse it by place and by image.

    Parameters
    ----------
    model
        A run folder, a checkpoint, or a network's name.
    images
        A data set, of whose test part images at equal distances are taken, or image files.
    output
        File of the picture: PNG, SVG or PDF; more places than a sheet has room for continue in NAME-2, and so on. The
        page is written beside it, with the ending html.
    overwrite
        Replace files that foveal did not write.
    most
        The largest number of images to draw.
    boxes
        Annotations of image files, as for score: their objects are outlined.
    opacity
        Of maps over the images, from 0 to 1, which shows the maps alone.
    backbone
        The function that builds the network, package.module:function, where the run's backbone is one.
    """
    from foveal.inspection.drawing.picture import save_pages
    from foveal.reports.look import look as look_at
    from foveal.reports.look_page import write_page

    page = output.with_suffix(".html")
    for path in (output, page):
        check_replaceable(path, overwrite)
    looked = look_at(model, images, most, backbone, boxes, opacity)
    print_remarks(looked.skipped, looked.notes)
    print(*save_pages(looked.pictures(), output, overwrite), sep="\n")
    print(write_page(looked, page))


def audit(
    model: str, data: str, *, output: Output | None = None, overwrite: bool = False, backbone: str | None = None
) -> None:
    """Test whether a network's attention has an effect. The exit code is 1 if there is a fault.

    Parameters
    ----------
    model
        A run folder, a checkpoint, or a network's name.
    data
        A data set, whose validation part is read.
    output
        The findings as JSON; if left out, audit.json in the run's folder, audit-DATA.json for data that the run was
        not trained on; in the current folder for a network by name. The times of the places are written beside it.
    overwrite
        Replace a file that foveal did not write.
    backbone
        The function that builds the network, package.module:function, where the run's backbone is one.
    """
    from foveal.evaluation.audit import audit as audit_network
    from foveal.evaluation.audit import write_audit
    from foveal.training.load_model import load_on_device

    opened = load_on_device(model, backbone)
    parts = opened.load_data(data)
    print_remarks(parts.skipped, parts.remarks)
    path = result_path(output, model, opened.result_name("audit", data), overwrite)
    with progress("auditing") as report_progress:
        batches = opened.batches(parts.validation, report_progress)
        audited = audit_network(opened.network, batches)
    print_remarks(batches.unread.reasons, {})
    print(audited)
    print(write_audit(audited, path))
    sys.exit(1 if audited.faults else 0)


def score(
    model: str,
    data: str,
    *,
    boxes: Path | None = None,
    output: Output | None = None,
    overwrite: bool = False,
    backbone: str | None = None,
) -> None:
    """Test whether a network's attention is on the object, and whether the network needs it.

    Parameters
    ----------
    model
        A run folder, a checkpoint, or a network's name.
    data
        A data set: its test part is scored, its validation part is used for every choice. The object's position is
        known for distorted digits, and for image files by --boxes.
    boxes
        Annotations of the objects in image files: a COCO file (boxes, polygons, run lengths); or a folder with a file
        for each image, of Pascal VOC (xml), of YOLO (txt), or masks (png). Where objects bear the names of classes,
        those of the image's own class count. Several objects count together and each alone.
    output
        The score as JSON, with the hash of the annotations; if left out, score.json in the run's folder,
        score-DATA.json for data that the run was not trained on; in the current folder for a network by name.
    overwrite
        Replace a file that foveal did not write.
    backbone
        The function that builds the network, package.module:function, where the run's backbone is one.
    """
    from foveal.data.annotated_data import annotate
    from foveal.evaluation.score import score as score_network
    from foveal.training.load_model import load_on_device

    opened = load_on_device(model, backbone)
    path = result_path(output, model, opened.result_name("score", data), overwrite)
    parts, annotations = opened.load_data(data), None
    parts.check_single_label("score")
    if boxes is not None:
        parts, annotations = annotate(parts, boxes)
    print_remarks(parts.skipped, parts.remarks)
    test, validation = opened.batches(parts.test), opened.batches(parts.validation)
    with progress("scoring") as report_progress:
        scored = score_network(opened.network, test, validation, on_progress=report_progress)
    print_remarks(test.unread.reasons | validation.unread.reasons, {})
    print(scored)
    print(write_file(path, replace(scored, annotations=annotations).to_json()))


def export(
    model: str,
    *,
    output: Output = Path("model.onnx"),
    overwrite: bool = False,
    attention: bool = False,
    backbone: str | None = None,
) -> None:
    """Write a network as a file for other runtimes, and check it against the network.

    Parameters
    ----------
    model
        A run folder, a checkpoint, or a network's name.
    output
        The file: ONNX, or .pt2 for torch.export.load.
    overwrite
        Replace a file that foveal did not write.
    attention
        Return each mechanism's attention weights as a further output.
    backbone
        The function that builds the network, package.module:function, where the run's backbone is one.
    """
    import torch

    from foveal.deployment.export import export as export_network
    from foveal.training.load_model import load_model

    check_replaceable(output, overwrite)
    opened = load_model(model, backbone)
    images = torch.randn(2, *opened.preprocessing.shape)
    exported = export_network(opened.network, images, output, attention=attention, overwrite=overwrite)
    print(exported)
    print(exported.path)
