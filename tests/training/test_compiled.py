"""Training with a compiled network: the same figures, weights and files as without."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from side_by_side import side_by_side
from training.test_processes import SETTINGS, Grouped, halves, losses

import foveal
from foveal.comparison.plan import make_plan
from foveal.training import train as training
from foveal.training.checkpoint import read_checkpoint
from foveal.training.config import CompareConfig
from foveal.training.train import train

COMPILED = replace(SETTINGS, model="small_cnn+se", compile=True, ema=0.9)
COMPILE = torch.compile


@pytest.fixture
def data(monkeypatch):
    monkeypatch.setattr(training, "load_data", lambda *_, **__: halves())


@pytest.fixture
def calls(monkeypatch):
    """Compile without inductor, which takes a minute; return the number of images of each graph that was made."""
    monkeypatch.setattr(torch, "compile", partial(COMPILE, backend=counting))
    counted.clear()
    torch._dynamo.reset()
    return counted


counted: list[int] = []


def counting(graph, inputs):
    from torch._dynamo.backends.debugging import aot_eager

    counted.extend(len(each) for each in inputs if isinstance(each, torch.Tensor) and each.shape[1:] == (1, 12, 12))
    return aot_eager(graph, inputs)


@pytest.mark.slow
def test_train_compiled_equals_training_without(data, calls, tmp_path):
    result = train(COMPILED, tmp_path / "run")
    assert calls == [8]  # a batch, once; nothing is compiled for validation
    assert result == train(replace(COMPILED, compile=False), tmp_path / "plain")
    for name in ("last", "best"):
        one, other = (read_checkpoint(tmp_path / run / f"{name}.safetensors") for run in ("run", "plain"))
        assert one.tensors.keys() == other.tensors.keys()
        assert all(torch.equal(other.tensors[key], value) for key, value in one.tensors.items())
    predicted = foveal.load_model(tmp_path / "run").predict(halves().test)
    assert (predicted.answers.classes() == halves().test.labels).double().mean() == pytest.approx(result.accuracy)


@pytest.mark.slow
def test_train_compiled_goes_on_bitwise(data, calls, tmp_path):
    class StopError(Exception):
        pass

    def stop(line):
        raise StopError

    train(COMPILED, tmp_path / "whole")
    with pytest.raises(StopError):
        train(COMPILED, tmp_path / "parts", on_epoch=stop)
    train(COMPILED, tmp_path / "parts")
    one, other = (read_checkpoint(tmp_path / name / "last.safetensors").tensors for name in ("whole", "parts"))
    assert all(torch.equal(other[name], value) for name, value in one.items())


@pytest.mark.slow
def test_train_compiled_in_two_processes_has_the_losses_of_one(calls):
    settings = replace(SETTINGS, compile=True, grad_accum_steps=2)
    first, second = side_by_side(2, losses, settings, Grouped)
    assert first == second
    assert first == pytest.approx(losses(replace(settings, compile=False), Grouped), abs=1e-9)


@pytest.fixture
def broken(monkeypatch):
    def compile_function(function, **options):
        raise RuntimeError("No working C++ compiler found\nSet TORCHDYNAMO_VERBOSE=1")

    monkeypatch.setattr(torch, "compile", compile_function)


def test_train_and_compare_refuse_to_compile_without_a_compiler_before_they_write(data, broken, tmp_path):
    message = "^compile=True: torch.compile does not work here: No working C.. compiler found$"
    with pytest.raises(ValueError, match=message):
        train(COMPILED, tmp_path / "run")
    with pytest.raises(ValueError, match=message):
        make_plan(["none", "se"], CompareConfig(data="digits", compile=True), tmp_path / "cmp")
    assert not [*tmp_path.iterdir()]


@pytest.mark.exhaustive
@pytest.mark.slow
def test_train_compiled_by_inductor_learns(data, tmp_path):
    """As `--compile` does it; it takes minutes where nothing is in the cache of inductor."""
    settings, functions = replace(SETTINGS, compile=True, epochs=4), {"own:net": Grouped}
    result = train(settings, tmp_path / "run", functions=functions)
    plain = train(replace(settings, compile=False), tmp_path / "plain", functions=functions)
    assert result.accuracy > 0.9
    one, other = (read_checkpoint(tmp_path / name / "last.safetensors").weights for name in ("run", "plain"))
    assert one.keys() == other.keys()
    assert not all(torch.equal(other[name], value) for name, value in one.items())  # rounded in another way
    assert plain.accuracy == pytest.approx(result.accuracy, abs=0.1)
