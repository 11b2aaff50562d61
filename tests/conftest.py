"""Settings for every test: one thread, one seed, few rounds of timing."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import pytest
import torch

torch.set_num_threads(1)  # tests run side by side, a process a core
torch.ones(1, requires_grad=True).backward()  # after torch.compile, the first pass would let no process be forked


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory):
    """Keep what is known of folders of images in a folder of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FOVEAL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _few_rounds(monkeypatch):
    """Measure times over three rounds instead of nine."""
    monkeypatch.setattr("foveal.profiling.timing.ROUNDS", 3)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run slow tests last."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


@pytest.fixture
def jobs_here(monkeypatch) -> None:
    """Run the jobs of a comparison in this process: new processes take seconds each, and `test_jobs.py` tests them."""
    from foveal.comparison import compare, jobs, reproduce

    class Here(jobs.JobPool):
        def run(
            self, jobs_by_key: Mapping[Hashable, jobs.Job], on_report: Callable[[int], None] = lambda count: None
        ) -> dict[Hashable, Any]:
            return {key: jobs.guarded(call, *arguments) for key, (call, arguments) in jobs_by_key.items()}

    for module in (compare, reproduce):
        monkeypatch.setattr(module, "JobPool", Here)
