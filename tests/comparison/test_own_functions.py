"""Comparisons on the caller's own network and data, also of a script that no process can import."""

import subprocess
import sys

import own_functions
import pytest

import foveal
from foveal.comparison.compare import compare


def test_compare_takes_functions_and_continues_by_name(tmp_path, jobs_here):
    """The second call finds everything done: it names the same functions, as text."""
    recipe = {"epochs": 1, "batch_size": 8, "seeds": 1}
    own = {"backbone": own_functions.net, "data": own_functions.halves}
    result = compare(["none", "se:at=residual"], output=tmp_path / "both", **own, **recipe)
    assert not any(row.failed for row in result.rows)
    assert result.rows[1].examination.audit.images == 12
    page = foveal.write_report(result).read_text()
    assert "own_functions:net" in page
    assert (tmp_path / "both" / "se-at=residual-0.png").is_file()
    before = (tmp_path / "both" / "results.json").read_text()
    names = {"backbone": "own_functions:net", "data": "own_functions:halves"}
    foveal.write_report(compare(["none", "se:at=residual"], output=tmp_path / "both", **names, **recipe))
    assert (tmp_path / "both" / "results.json").read_text() == before
    with pytest.raises(ValueError, match="contains a comparison with another backbone, 'own_functions:net'"):
        compare(["none"], output=tmp_path / "both", **{**own, "backbone": own_functions.Net}, **recipe)


def test_compare_cannot_scale_a_function(tmp_path):
    with pytest.raises(ValueError, match="contender 'wider': the backbone 'own_functions:net' is a function"):
        compare(["none", "wider", "se:at=residual"], backbone=own_functions.net, data=own_functions.halves)


SCRIPT = """
import os
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])  # fewer processes to start
import foveal, torch
from torch import nn
from torch.utils.data import TensorDataset

class Small(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.stem, self.head = nn.Conv2d(1, 8, 3), nn.Linear(8, classes)

    def forward(self, x):
        return self.head(self.stem(x).relu().mean((2, 3)))

def network(num_classes):
    return Small(num_classes)

def images():
    labels = torch.arange(40) % 2
    return TensorDataset(torch.ones(40, 1, 8, 8) * labels[:, None, None, None], labels)

result = foveal.compare(
    ["none", "se:at=stem"], backbone=network, data=images, epochs=4, lr=0.01, batch_size=4, seeds=1, output="out"
)
print([(row.model, row.errors, row.failed, row.examination.failed) for row in result.rows])
"""


@pytest.mark.slow
@pytest.mark.exhaustive
def test_compare_of_a_script_from_standard_input(tmp_path):
    """Black and white images, which are learned without an error."""
    done = subprocess.run(
        [sys.executable, "-"], input=SCRIPT, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    models = ["__main__:network", "__main__:network+se:at=stem"]
    assert done.stdout.strip() == str([(model, {0: 0.0}, {}, "") for model in models])
