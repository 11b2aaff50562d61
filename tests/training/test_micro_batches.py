"""Batches that are computed in micro-batches: the losses of whole ones, in one process and in two."""

from dataclasses import replace

import pytest
from own_functions import Net
from side_by_side import side_by_side
from training.test_processes import SETTINGS, Broken, Grouped, Noisy, halves, losses

from foveal.data.parts import InMemory
from foveal.training import train as training
from foveal.training.checkpoint import read_checkpoint
from foveal.training.config import RunConfig
from foveal.training.processes import check_batch, describe_processes
from foveal.training.trainer import Trainer

CASES = {
    "class weights, clipped, averaged": (InMemory, {"clip_grad": 0.01, "ema": 0.9}),
    "mixed and erased": (Noisy, {"class_weights": False, "mixup": 0.4, "cutmix": 0.5, "reprob": 0.5}),
    "images that cannot be read": (Broken, {}),
}


@pytest.mark.parametrize("count", [2, 8])
@pytest.mark.parametrize("case", CASES)
def test_step_in_micro_batches_has_the_losses_of_whole_batches(case, count):
    kind, options = CASES[case]
    settings = replace(SETTINGS, **options)
    whole = losses(settings, Grouped, kind)
    parts = losses(replace(settings, grad_accum_steps=count), Grouped, kind)
    assert len(whole) == 20
    assert parts != whole  # by rounding: they were computed in another order
    assert parts == pytest.approx(whole, abs=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_step_in_micro_batches_of_two_processes_has_the_losses_of_one(case):
    kind, options = CASES[case]
    settings = replace(SETTINGS, **options)
    first, second = side_by_side(2, losses, replace(settings, grad_accum_steps=2), Grouped, kind)
    assert first == second
    assert first == pytest.approx(losses(settings, Grouped, kind), abs=1e-9)


def test_step_with_synchronized_batch_norm_needs_as_many_micro_batches_in_each_process():
    """Where images of one process cannot be read, the other one would wait for its statistics for ever."""
    settings = replace(SETTINGS, sync_bn=True, grad_accum_steps=4)
    first, second = side_by_side(2, losses, settings, Net, Broken)
    assert len(first) == 20
    assert first == second


def test_step_takes_the_statistics_of_batch_norm_from_each_micro_batch():
    parts = losses(replace(SETTINGS, grad_accum_steps=2), Net)
    assert parts != pytest.approx(losses(SETTINGS, Net), abs=1e-4)


def test_trainer_computes_no_more_images_at_a_time_than_a_micro_batch(monkeypatch, tmp_path):
    sizes = {True: set(), False: set()}

    class Counting(Grouped):
        def forward(self, x):
            sizes[self.training].add(len(x))
            return super().forward(x)

    run = Trainer(replace(SETTINGS, batch_size=16, grad_accum_steps=4), halves(), {"own:net": Counting})
    sizes.update({True: set(), False: set()})  # without those of the trial passes
    run.train_epoch(0, lambda done, of: None)
    run.predict(run.data.validation)
    assert sizes == {True: {4}, False: {4, 1}}  # of 80 images, and of 21
    monkeypatch.setattr(training, "load_data", lambda *_, **__: halves())
    training.train(replace(SETTINGS, model="small_cnn", epochs=1, grad_accum_steps=2), tmp_path / "run")
    assert read_checkpoint(tmp_path / "run").facts["inference"]["batch_size"] == 4  # as it was tested


def test_gradients_of_micro_batches_are_shared_once():
    """All micro-batches of a process but the last one keep their gradients for themselves."""
    first, _ = side_by_side(2, shared_gradients, replace(SETTINGS, grad_accum_steps=4))
    assert first == [False, False, False, True] * 10


def shared_gradients(settings):
    run, found = Trainer(settings, halves(), {"own:net": Grouped}), []
    run.loss_of.register_forward_pre_hook(lambda module, _: found.append(module.require_backward_grad_sync))
    run.train_epoch(0, lambda done, of: None)
    return found


def test_check_batch_counts_processes_pairs_and_micro_batches():
    check_batch(RunConfig(batch_size=12, grad_accum_steps=2), 12, 3)
    with pytest.raises(
        ValueError, match=r"batch_size=12: 3 processes .*, in grad_accum_steps=3 parts; a multiple of 9"
    ):
        check_batch(RunConfig(batch_size=12, grad_accum_steps=3), 100, 3)
    with pytest.raises(ValueError, match=r", in pairs .*, in grad_accum_steps=3 parts; a multiple of 12 is needed"):
        check_batch(RunConfig(batch_size=6, grad_accum_steps=3, mixup=0.1), 100, 2)


def test_describe_processes_names_the_images_of_a_micro_batch(monkeypatch):
    settings = RunConfig(grad_accum_steps=4)
    assert (
        describe_processes(settings)
        == "8 of the 32 images of a batch at a time, from which BatchNorm takes its statistics\n"
    )
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert describe_processes(settings) == (
        "2 processes, each trains on 16 of the 32 images of a batch, 4 at a time; BatchNorm takes its statistics from "
        "its own 4; their means are validated and stored (--sync-bn: from all 8)\n"
    )
