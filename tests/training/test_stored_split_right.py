"""Images that changed after training: a test image that the run was trained on never counts as one."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import yaml
from PIL import Image

import foveal
from foveal.comparison.plan import make_plan
from foveal.core.folders import locked_folder
from foveal.reports.look import look
from foveal.training.config import CompareConfig, RunConfig
from foveal.training.load_model import load_model
from foveal.training.stored_split import StoredSplit, digest_of
from foveal.training.train import fingerprint

SETTINGS = {"image_size": 16, "epochs": 2, "batch_size": 4, "lr": 3e-3}


def write_image(path, level):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((16, 16, 3), level, np.uint8)).save(path)


def write_classes(root, count=12, start=0):
    for level, name in ((40, "dark"), (200, "light")):
        for index in range(start, start + count):
            write_image(root / name / f"{index:02}.png", level + index % 50)
    return root


class StopError(Exception):
    pass


def stop(line):
    raise StopError


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder of images, a finished run on it, one that stopped after its first epoch, and one with groups."""
    root = tmp_path_factory.mktemp("split")
    data = write_classes(root / "all")
    config = RunConfig(model="small_cnn+se", data=f"folder:{data}", **SETTINGS)
    foveal.train(config, root / "run")
    with pytest.raises(StopError):
        foveal.train(config, root / "begun", on_epoch=stop)
    names = [path.relative_to(data).as_posix() for path in sorted(data.rglob("*.png"))]
    lines = (f"{name},{name.split('/')[0]}{int(name[-6:-4]) // 3}" for name in names)
    (root / "groups.csv").write_text("\n".join(lines))
    foveal.train(replace(config, groups=str(root / "groups.csv")), root / "grouped")
    return root


@pytest.fixture
def place(trained, tmp_path):
    """The folder, of which a test may change the images."""
    shutil.copytree(trained / "all", tmp_path / "all")
    yield trained
    shutil.rmtree(trained / "all")
    shutil.copytree(tmp_path / "all", trained / "all")


def add(data):
    write_classes(data, 1, start=90)


def remove(data):
    (data / "dark/03.png").unlink()


def rename(data):
    (data / "light/05.png").rename(data / "light/55.png")


def rename_class(data):
    (data / "light").rename(data / "white")


CHANGES = [
    (add, r"2 added, as 'dark/90\.png'"),
    (remove, r"1 removed, as 'dark/03\.png'"),
    (rename, r"1 added, as 'light/55\.png'; 1 removed, as 'light/05\.png'"),
    (rename_class, r"12 added, as 'white/\d\d\.png'; 12 removed, as 'light/\d\d\.png'"),
]


def parts_of(folder) -> dict[str, list[str]]:
    stored = json.loads((folder / "split.json").read_text())
    return {part: stored[part] for part in ("train", "validation", "test")}


def resume(place, run, folder):
    shutil.copytree(place / run, folder)
    return foveal.train(RunConfig(**yaml.safe_load((folder / "config.yaml").read_text())), folder, resume=True)


@pytest.mark.parametrize(("change", "message"), CHANGES)
def test_other_images_are_refused_by_load_data_and_resume(place, tmp_path, change, message):
    change(place / "all")
    with pytest.raises(ValueError, match=f"not those that the run was trained on: {message}") as raised:
        load_model(str(place / "run")).load_data(place / "all")
    assert "\n" not in str(raised.value)
    with pytest.raises(ValueError, match="not those that the run was trained on"):
        look(str(place / "run/best.safetensors"), [str(place / "all")])
    before = (place / "begun/split.json").read_text()
    with pytest.raises(ValueError, match=f"{message}.*; restore them, or train in another folder than"):
        resume(place, "begun", tmp_path / "begun")
    assert (tmp_path / "begun/split.json").read_text() == before


def test_the_same_images_are_read_and_resumed(place, tmp_path):
    parts = parts_of(place / "run")
    assert load_model(str(place / "run")).load_data(place / "all").split == parts
    assert (
        resume(place, "begun", tmp_path / "begun").accuracy
        == foveal.train(
            RunConfig(**yaml.safe_load((place / "run/config.yaml").read_text())), place / "run", resume=True
        ).accuracy
    )
    assert parts_of(tmp_path / "begun") == parts


def test_a_finished_run_is_read_without_its_images(place, tmp_path):
    """Its figures are those of the images that it was trained on."""
    before = (place / "run/metrics.jsonl").read_text()
    rename(place / "all")
    assert resume(place, "run", tmp_path / "run").accuracy == json.loads(before.splitlines()[-1])["test"]["accuracy"]


def test_a_begun_run_without_its_split_is_refused(place, tmp_path):
    shutil.copytree(place / "begun", tmp_path / "begun")
    config = RunConfig(**yaml.safe_load((place / "begun/config.yaml").read_text()))
    for text, message in (
        ("{}", "train=None; a list of names is needed"),
        (None, "no such file, and the images of the ear"),
    ):
        (tmp_path / "begun/split.json").write_text(text) if text else (tmp_path / "begun/split.json").unlink()
        with pytest.raises(ValueError, match=message):
            foveal.train(config, tmp_path / "begun", resume=True)


def test_other_groups_are_refused(place):
    own = load_model(str(place / "grouped")).load_data(place / "all")
    assert own.split == parts_of(place / "grouped") != parts_of(place / "run")
    text = (place / "groups.csv").read_text()
    (place / "groups.csv").write_text(text.replace("dark0", "dark1"))
    with pytest.raises(ValueError, match=r"\d in another part, as 'dark/\d\d.png'"):
        load_model(str(place / "grouped")).load_data(place / "all")
    (place / "groups.csv").write_text(text)


@pytest.mark.parametrize("named", ["above", "copied", "linked"])
def test_training_images_are_no_test_images_under_another_name(place, tmp_path, named):
    """Under another name the groups of the run are not used, so that the images are split in another way."""
    (tmp_path / "linked").symlink_to(place)
    folder = {"above": place, "copied": tmp_path / "all", "linked": tmp_path / "linked"}[named]
    message = r"\d+ of its \d+ test images, as '.*png', are images that the run was trained or chosen on"
    with pytest.raises(ValueError, match=message):
        load_model(str(place / "grouped")).load_data(folder)


def test_other_images_of_the_same_names_are_other_images(place, tmp_path):
    write_classes(tmp_path / "new", 12)
    opened = load_model(str(place / "run"))
    assert len(opened.load_data(tmp_path / "new").test) == len(parts_of(place / "run")["test"])
    write_classes(tmp_path / "more", 30)
    assert len(load_model(str(place / "grouped")).load_data(tmp_path / "more").test) > 4


def test_weights_without_their_run_are_read_with_a_note(place, tmp_path):
    shutil.copy(place / "run/best.safetensors", tmp_path / "mine.safetensors")
    data = load_model(str(tmp_path / "mine.safetensors")).load_data(place / "all")
    assert data.remarks["parts of the data"].startswith("not compared with the run's, as there is no split.json")
    assert "parts of the data" not in load_model(str(place / "run")).load_data(place / "all").remarks


def test_a_comparison_is_not_continued_with_other_images(place, tmp_path):
    config = CompareConfig(data=f"folder:{place / 'all'}", **SETTINGS, seeds=1)
    plan = make_plan(["none"], config, tmp_path / "cmp")
    with locked_folder(plan.folder):
        plan.write()
    foveal.train(plan.run_config("none", 0), plan.runs("none")[0])
    assert make_plan(["none", "se"], config, tmp_path / "cmp").minutes > 0
    remove(place / "all")
    with pytest.raises(ValueError, match=r"1 removed, as 'dark/03.png'.*; restore them, or train in another folder"):
        make_plan(["none", "se"], config, tmp_path / "cmp")


def test_labels_that_changed_are_refused_and_those_of_older_runs_taken(tmp_path):
    data = foveal.load_data(write_classes(tmp_path / "all"), image_size=16)
    swapped = replace(data, test=replace(data.test, labels=1 - data.test.labels))
    stored = StoredSplit(data.split, None, digest_of(data))
    stored.check_same(data, "stop")
    with pytest.raises(ValueError, match="its labels are not those that the run was trained on; restore them, or stop"):
        stored.check_same(swapped, "stop")
    replace(stored, labels=None).check_same(swapped, "stop")
    deeper = replace(data, preprocessing=replace(data.preprocessing, value_range=(0, 999)))
    assert len({fingerprint(each) for each in (data, swapped, deeper)}) == 3  # what processes compare
    assert digest_of(replace(data, classes=("light", "dark"))) != digest_of(data)
