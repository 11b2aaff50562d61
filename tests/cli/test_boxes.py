"""`score` and `look` with `--boxes`."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from annotated_scenes import mask_of, write_coco, write_voc
from PIL import Image

import foveal
from foveal.reports import look
from foveal.training.checkpoint import save_checkpoint

SIZE = 40, 40
BCCD = Path(__file__).parents[3] / "shared/data/bccd"


@pytest.fixture
def run(tmp_path):
    """A network with a mask, untrained, as a run's weights; photographs with a bright object, and its annotations."""
    random = np.random.default_rng(0)
    for label in ("bright", "dim"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for index in range(14):
            x, y = random.integers(2, 24, 2).tolist()
            boxes = [(x, y, x + 8, y + 8), (x + 4, y + 4, x + 14, y + 14)]
            pixels = 20 + (200 if label == "bright" else 100) * np.maximum(*(mask_of(box, SIZE) for box in boxes))
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "photos" / label / f"{label}{index}.png")
            write_voc(tmp_path / "voc", [("thing", box) for box in boxes], SIZE, f"{label}{index}")
    torch.manual_seed(0)
    network = foveal.create_model("small_cnn+cbam", num_classes=2)
    data = foveal.load_data(tmp_path / "photos", image_size=40)
    facts = {"classes": list(data.classes), "preprocessing": vars(data.preprocessing), "groups": None}
    save_checkpoint(tmp_path / "net.safetensors", network, facts)
    return tmp_path


def test_score_command_reads_boxes_and_keeps_their_hash(run_command, run):
    code, out, err = run_command("score", "net.safetensors", "folder:photos", "--boxes", "voc", "--output", "s.json")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    told = "all objects count: none of their names is a class, as 'thing'"
    assert f"boxes: Pascal VOC, 16 objects in 8 images; {told}" in lines
    scored = json.loads((run / "s.json").read_text())
    facts = scored["annotations"]
    assert (facts["path"], facts["format"], facts["images"], facts["objects"]) == ("voc", "Pascal VOC", 8, 16)
    kinds = {(each["path"], each["metric"], each["objects"], each["images"]) for each in scored["located"]}
    places = {each["path"] for each in scored["located"]}
    four = {(path, metric, which, 4) for path in places for metric in ("pointing", "energy", "iou")
            for which in ("all", "each")}  # fmt: skip
    assert kinds == four
    assert any(path.startswith("grad_cam") for path in places)
    assert any("energy of each object alone" in line for line in lines)
    for place in places:  # of two objects that overlap, both hold at least half of the energy of both, at most all
        alone, union = (
            next(each["attention"]["mean"] for each in scored["located"]
                 if (each["path"], each["metric"], each["objects"]) == (place, "energy", which))
            for which in ("each", "all")
        )  # fmt: skip
        assert union / 2 - 1e-6 <= alone <= union + 1e-6


@pytest.mark.slow
def test_look_command_outlines_objects(run_command, run, monkeypatch):
    seen = []
    monkeypatch.setattr(look, "outlined", lambda images, objects: seen.append(objects) or images)
    code, out, _ = run_command("look", "net.safetensors", "photos/dim/dim0.png", "--boxes", "voc")
    assert code == 0
    assert "boxes: 2 objects outlined" in out.splitlines()
    assert [len(each) for each in seen[0]] == [2]
    with pytest.raises(ValueError, match="boxes='voc': the images are no image files, which alone take it"):
        look.look("small_cnn+se", ["digits"], 1, boxes="voc")


@pytest.mark.parametrize(
    ("data", "break_it", "message"),
    [
        ("folder:photos", lambda path: None, "there is no such file or folder"),
        ("folder:photos", lambda path: path.write_text("{}"), "images=None; COCO's is a list"),
        ("folder:photos", lambda path: write_coco(path.parent).rename(path), "none of its 1 COCO annotations"),
        ("digits", lambda path: write_coco(path.parent).rename(path), "data 'digits' is no folder of image files"),
    ],
)
def test_score_command_refuses_boxes_in_one_line(data, break_it, message, run_command, run):
    break_it(run / "a.json")
    model = "net.safetensors" if data != "digits" else "small_cnn+se"
    code, _, err = run_command("score", model, data, "--boxes", "a.json")
    assert code == 2
    assert len(err.splitlines()) == 1
    assert message in err


@pytest.mark.skipif(not BCCD.is_dir(), reason="needs ../shared/data/bccd")
def test_boxes_of_bccd_are_all_read():
    """364 photographs of 640x480 with 4,888 cells; two boxes are of one pixel, see the data's own files."""
    from foveal.data.annotated_objects import within
    from foveal.data.annotations import list_annotations

    names = [f"{path.stem}.jpg" for path in (BCCD / "JPEGImages").iterdir()]
    sources = list_annotations(BCCD / "Annotations").find(names)
    objects = [each for source in sources.values() for each in source.read((480, 640))]
    assert (len(sources), len(objects)) == (364, 4888)
    assert {each.name for each in objects} == {"RBC", "WBC", "Platelets"}
    assert all(within(each.box, (480, 640), "") == each.box for each in objects)
    assert sum(each.box[2] - each.box[0] == 1 for each in objects) == 2
