"""What is printed about a data set: files left out, and how others were read; by every command that reads data."""

import re

import numpy as np
import pytest
from comparisons import BASE, make_comparison
from PIL import Image

import foveal
from foveal.comparison.plan import make_plan
from foveal.core.names import remark_lines
from foveal.reports.comparison_page import provenance
from foveal.reports.look import look
from foveal.reports.look_page import write_page
from foveal.training.config import CompareConfig, RunConfig

LEFT_OUT = "left out light/broken.png: not an image by its content"
CLEAR = r"images with transparency: 12, as light/\d\d.png: composed over white"
DEEP = r"16-bit images: 12, as dark/\d\d.png: values 1000 to 1011, .*, become 0 to 255"
OPTIONS = {"image_size": 16, "epochs": 1, "batch_size": 4}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Images of 16 bits, transparent ones, a file that is no image, and a run on them."""
    root = tmp_path_factory.mktemp("remarks")
    for index in range(12):
        for name in ("dark", "light"):
            (root / "all" / name).mkdir(parents=True, exist_ok=True)
        values = np.full((16, 16), 1000 + index, np.uint16)
        values[:8] = 1000 + (11 - index)
        Image.fromarray(values).save(root / f"all/dark/{index:02}.png")
        pixels = np.full((16, 16, 4), (200, 200, 200, 9 * index), np.uint8)
        Image.fromarray(pixels).save(root / f"all/light/{index:02}.png")
    (root / "all/light/broken.png").write_text("no image")
    foveal.train(RunConfig(model="small_cnn+se", data=f"folder:{root / 'all'}", **OPTIONS), root / "run")
    return root


def check_remarks(lines: list[str]) -> None:
    """Check that the lines are the three remarks on the data, in this order."""
    assert len(lines) == 3
    for line, expected in zip(lines, (LEFT_OUT, CLEAR, DEEP), strict=True):
        assert re.fullmatch(expected, line)


@pytest.mark.parametrize("verb", [("audit",), ("score",), ("look", "--most", 1)])
def test_audit_score_and_look_print_what_train_prints(root, run_command, verb):
    code, out, err = run_command(*verb, root / "run", root / "all", "--output", "out.png")
    assert code in (0, 1), err
    check_remarks(out.splitlines()[:3])


def test_train_prints_them_too(root, run_command):
    flags = [f for name, value in OPTIONS.items() for f in (f"--{name.replace('_', '-')}", value)]
    code, out, err = run_command("train", "--data", f"folder:{root / 'all'}", *flags, "--output", "new")
    assert code == 0, err
    check_remarks(out.splitlines()[-8:-5])  # before the table of classes


def test_the_page_of_look_has_the_notes(root, tmp_path):
    text = write_page(look(str(root / "run"), [str(root / "all")], most=1), tmp_path / "look.html").read_text()
    assert re.search(r"<dt>images with transparency</dt><dd>12, as light/\d\d.png: composed over white</dd>", text)
    assert "<dt>light/broken.png</dt><dd>not an image by its content</dd>" in text


def test_a_plan_and_the_report_of_a_comparison_have_them(root, tmp_path):
    plan = make_plan(["none"], CompareConfig(data=f"folder:{root / 'all'}", seeds=1, **OPTIONS), tmp_path / "cmp")
    check_remarks([line[2:] for line in str(plan).splitlines()[3:-1]])
    made = make_comparison(tmp_path / "made", {"none": BASE}, skipped=plan.skipped, notes=plan.notes)
    check_remarks(dict(provenance(made))["Notes on the data"].split("; "))


def test_classes_without_a_test_image_are_a_note_of_the_plan(tmp_path):
    for name, count in (("common", 20), ("rare", 1)):
        (tmp_path / "all" / name).mkdir(parents=True)
        for index in range(count):
            Image.new("L", (16, 16), 9 * index).save(tmp_path / f"all/{name}/{index}.png")
    plan = make_plan(["none"], CompareConfig(data=f"folder:{tmp_path / 'all'}", seeds=1, **OPTIONS), tmp_path / "cmp")
    assert "  test part: no image of rare" in str(plan).splitlines()


def test_remark_lines_count_what_is_not_listed():
    many = {f"{index}.png": "no" for index in range(32)}
    lines = remark_lines(many, many)
    assert lines[29:31] == ["left out 29.png: no", "left out 2 more"]
    assert lines[-2:] == ["29.png: no", "and 2 more notes"]
    assert remark_lines({}, {}) == []
