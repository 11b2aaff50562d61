"""Files for TensorBoard: the lines of `metrics.jsonl`, each once, also after a run was continued."""

from dataclasses import replace
from importlib.util import find_spec

import pytest
from side_by_side import side_by_side
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training.test_processes import SETTINGS, halves, trained

from foveal.training import tensorboard
from foveal.training import train as training
from foveal.training.run_folder import read_lines
from foveal.training.train import train

SEEN = replace(SETTINGS, model="small_cnn", tensorboard=True, epochs=3)


class StopError(Exception):
    pass


def stop(line):
    if line["epoch"] == 2:
        raise StopError


@pytest.fixture(autouse=True)
def _data(monkeypatch):
    monkeypatch.setattr(training, "load_data", lambda *_, **__: halves())


def figures(folder):
    """The figures by name and step, as TensorBoard reads them."""
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return {name: [(each.step, each.value) for each in events.Scalars(name)] for name in events.Tags()["scalars"]}


def expected(folder):
    *epochs, last = read_lines(folder)
    test = {name: last["test"][name] for name in ("accuracy", "balanced_accuracy", "calibration_error")}
    return {
        **{
            name: [(line["epoch"], near(line[name])) for line in epochs]
            for name in ("train_loss", "validation_accuracy")
        },
        **{f"test/{name}": [(len(epochs), near(value))] for name, value in test.items()},
    }


def near(value):
    return pytest.approx(value, rel=1e-6)  # in single precision


def test_train_writes_its_figures_for_tensorboard(tmp_path):
    train(SEEN, tmp_path / "run")
    assert figures(tmp_path / "run") == expected(tmp_path / "run")
    train(replace(SEEN, tensorboard=False), tmp_path / "plain")
    assert not (tmp_path / "plain/tensorboard").exists()
    assert read_lines(tmp_path / "plain") == read_lines(tmp_path / "run")


@pytest.mark.parametrize("before", [True, False])
def test_train_writes_each_figure_once_when_it_is_continued(before, tmp_path):
    with pytest.raises(StopError):
        train(replace(SEEN, tensorboard=before), tmp_path / "run", on_epoch=stop)
    if before:
        assert [step for step, _ in figures(tmp_path / "run")["train_loss"]] == [1, 2]  # while it runs
        (tmp_path / "run/tensorboard/mine.txt").write_text("mine")
    train(SEEN, tmp_path / "run")
    assert figures(tmp_path / "run") == expected(tmp_path / "run")
    assert len([*(tmp_path / "run/tensorboard").glob("*.foveal")]) == 1
    train(replace(SEEN, epochs=4), tmp_path / "run", resume=True)
    assert figures(tmp_path / "run") == expected(tmp_path / "run")
    assert [step for step, _ in figures(tmp_path / "run")["test/accuracy"]] == [4]
    assert before == (tmp_path / "run/tensorboard/mine.txt").exists()


def test_train_replaces_the_files_of_the_run_before(tmp_path):
    train(SEEN, tmp_path / "run")
    with pytest.raises(ValueError, match="holds a run with tensorboard=True, not False"):  # it is finished
        train(replace(SEEN, tensorboard=False), tmp_path / "run", resume=True)
    train(replace(SEEN, tensorboard=False), tmp_path / "run", overwrite=True)
    assert not (tmp_path / "run/tensorboard").exists()


def test_train_refuses_tensorboard_without_its_package_before_it_writes(monkeypatch, tmp_path):
    monkeypatch.setattr(tensorboard, "find_spec", lambda name: None if name == "tensorboard" else find_spec(name))
    with pytest.raises(ValueError, match=r"^tensorboard=True: .* is missing; pip install foveal\[tensorboard\]$"):
        train(SEEN, tmp_path / "run")
    assert not [*tmp_path.iterdir()]


def test_the_main_process_alone_writes_for_tensorboard(tmp_path):
    side_by_side(2, trained, SEEN, tmp_path / "run")
    assert len([*(tmp_path / "run/tensorboard").iterdir()]) == 1
    assert figures(tmp_path / "run") == expected(tmp_path / "run")
