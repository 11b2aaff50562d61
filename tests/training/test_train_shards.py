"""Training on shards: a run that was interrupted agrees with an undisturbed one."""

import pytest
from shards import samples, write_shard

import foveal
from foveal.training.run_folder import read_lines


def test_train_on_shards_resumed_agrees_bitwise_with_an_undisturbed_run(tmp_path, monkeypatch):
    monkeypatch.setenv("FOVEAL_CACHE", str(tmp_path / "cache"))
    for number in range(4):
        write_shard(tmp_path / f"data/{number}.tar", samples(8, 8 * number))
    config = foveal.RunConfig(data=f"wds/{tmp_path}/data", image_size=16, epochs=2, batch_size=8, model="small_cnn+se")
    foveal.train(config, tmp_path / "whole")

    def stop(line):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        foveal.train(config, tmp_path / "parts", on_epoch=stop)
    foveal.train(config, tmp_path / "parts", resume=True)
    assert read_lines(tmp_path / "parts") == read_lines(tmp_path / "whole")
