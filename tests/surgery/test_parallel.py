"""Attached models in DataParallel, DistributedDataParallel and FSDP2."""

import pytest
import torch
from parallel_training import PLACES, PROCESSES, alone, batch, network, run
from torch import nn

import foveal
from foveal.mechanisms.registry import MECHANISMS


def test_every_soft_mechanism_is_trained_in_parallel():
    assert set(PLACES) == {name for name, each in MECHANISMS.items() if not each.hard and each.attaches != "network"}


@pytest.mark.parametrize("mechanism", PLACES)
def test_attached_runs_in_replicas_as_dataparallel_makes_them(mechanism, monkeypatch):
    """Two replicas on the processor in place of two graphics cards: their weights are copies, gradients the sum."""
    replicate = torch.nn.parallel.replicate
    monkeypatch.setitem(replicate.__globals__, "_get_device_index", lambda device, _: device)
    monkeypatch.setitem(
        replicate.__globals__,
        "_broadcast_coalesced_reshape",
        lambda tensors, devices, detach=False: [
            [(each.detach() if detach else each).clone() for each in tensors] for _ in devices
        ],
    )
    model, expected = network(mechanism).eval(), network(mechanism).eval()
    held = {module: set(vars(module)) for module in model.modules()}
    images, _ = batch()
    out = torch.cat([replica(half) for replica, half in zip(replicate(model, [0, 1]), images.chunk(2), strict=True)])
    torch.testing.assert_close(out, expected(images), rtol=0, atol=1e-12)
    out.square().sum().backward()
    expected(images).square().sum().backward()
    for one, other in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-9, atol=1e-12)
    assert {module: set(vars(module)) for module in model.modules()} == held


@pytest.mark.slow
@pytest.mark.exhaustive
def test_attached_trains_in_two_processes_as_in_one(tmp_path):
    torch.multiprocessing.spawn(run, (str(tmp_path),), nprocs=PROCESSES)
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(PROCESSES)]
    for mechanism in PLACES:
        logits, state = alone(mechanism)
        before = network(mechanism).state_dict()
        assert not torch.equal(state["layer1.conv2.weight"], before["layer1.conv2.weight"])
        for kind in ("distributed", "sharded"):
            results = [each[kind, mechanism] for each in found]
            torch.testing.assert_close(torch.cat([each for each, _ in results]), logits, rtol=0, atol=1e-12)
            assert [*results[0][1]] == [*state]
            torch.testing.assert_close(results[0][1], dict(state), rtol=0, atol=1e-12)


@pytest.fixture
def group():
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("wrap", [nn.parallel.DistributedDataParallel, "fully_shard"])
def test_attach_and_detach_refuse_models_whose_weights_are_already_distributed(wrap):
    """A weight that is added later would be another one in each process."""
    if wrap == "fully_shard":
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        model = network("se")
        fully_shard(model.layer1, mesh=init_device_mesh("cpu", (1,)))
    else:
        model = wrap(network("se"))
    for change in (lambda: foveal.attach(model, "cbam"), lambda: foveal.detach(model)):
        with pytest.raises(ValueError, match=r"model: its weights are distributed by \w+; attach and detach the plain"):
            change()
