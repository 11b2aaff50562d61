"""The scripts of docs/examples on photographs of blood cells."""

import importlib
import re
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
CELLS = ROOT.parent / "shared" / "data" / "bccd"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.exhaustive,
    pytest.mark.skipif(not CELLS.is_dir(), reason="the photographs of blood cells (BCCD) are not there"),
]


@pytest.mark.parametrize(
    ("script", "library"), [("faster_rcnn", "torchvision"), ("unet", "segmentation_models_pytorch")]
)
def test_worked_example_attaches_trains_watches_and_detaches(script, library, tmp_path, monkeypatch, capsys):
    pytest.importorskip(library, reason="the extra third-party is not installed")
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "examples"))
    monkeypatch.chdir(tmp_path)
    losses = importlib.import_module(script).main(CELLS, 5)
    assert losses[-1] < 0.9 * losses[0]
    printed = capsys.readouterr().out
    assert re.search(r"attached at [1-9]\d* places; same (detections|logits): True", printed)
    assert re.search(r"[1-9]\d* records; .*spatial: \(2, \d+, \d+\)", printed)
    assert printed.strip().endswith(": True")
    assert Image.open(f"{script}.png").width > 100
