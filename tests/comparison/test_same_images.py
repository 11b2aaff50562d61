"""Files that change while a comparison runs: no figure compares other images without a word."""

from helpers import write_halves

import foveal
from foveal.comparison import compare
from foveal.comparison.jobs import Failed
from foveal.training.run_folder import read_split


def compared(tmp_path, monkeypatch, meanwhile):
    """Compare two contenders; `meanwhile` is called with the first run's folder before the second one begins."""
    real, begun = compare.run, []

    def run(config, folder, functions):
        if begun:
            meanwhile(begun[-1])
        begun.append(folder)
        return real(config, folder, functions)

    monkeypatch.setattr(compare, "run", run)
    data = write_halves(tmp_path / "halves", 30)
    return foveal.compare(
        ["none", "se"], output=tmp_path / "cmp", data=f"folder:{data}", seeds=1, epochs=1, image_size=16
    ), data


def test_compare_fails_a_run_whose_split_another_file_changed(tmp_path, monkeypatch, jobs_here):
    def add(first):
        (tmp_path / "halves/left/new.png").write_bytes((tmp_path / "halves/left/0.png").read_bytes())

    found, _ = compared(tmp_path, monkeypatch, add)
    (failed,) = [row for row in found.rows if row.failed]
    assert failed.name == "se"
    assert failed.failed[0].startswith("its images or labels are not those of 'none', since files changed in between")
    assert found.pairs == {}


def test_compare_pairs_images_by_name_and_names_those_that_one_run_left_out(tmp_path, monkeypatch, jobs_here):
    def damage(first):
        """Break a test image within its data, so that its header and its end stay as they are."""
        image = tmp_path / "halves" / read_split(first)["test"][0]
        content = bytearray(image.read_bytes())
        content[-60:-20] = bytes(40)
        image.write_bytes(content)

    found, _ = compared(tmp_path, monkeypatch, damage)
    image = read_split(tmp_path / "cmp/none-0")["test"][0]
    assert not any(row.failed for row in found.rows)
    assert "left out while it was used" in found.plan.skipped[image]
    files = [tmp_path / f"cmp/{row.name}-0/predictions.csv" for row in found.rows]
    test = len(read_split(tmp_path / "cmp/none-0")["test"])
    assert sorted(len(file.read_text().splitlines()) for file in files) == [test, test + 1]  # with the line of names
    pair = found.pairs["se"][0]
    assert pair.gained + pair.lost <= test - 1


def test_with_the_same_images_keeps_failures(tmp_path):
    results = {("none", 0): Failed("no"), ("se", 0): 1, ("se", 1): 2}
    assert compare.with_the_same_images(type("Plan", (), {"baseline": "none"}), results) == results
