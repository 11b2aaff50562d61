"""Settings for every test: one thread, one seed."""

import pytest
import torch

torch.set_num_threads(1)  # tests run side by side, a process a core


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run slow tests last."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)
