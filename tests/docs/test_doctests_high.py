"""Examples in docstrings run and print what they show: networks, deployment, comparison, reports, analyses."""

import doctest
import importlib
import pkgutil

import pytest
import torch

PACKAGES = ("foveal.networks", "foveal.deployment", "foveal.comparison", "foveal.reports", "benchmarks")
MODULES = (
    "foveal.evaluation.audit_passes",
    "foveal.evaluation.deletion_insertion",
    "foveal.evaluation.finding_types",
    "foveal.evaluation.findings",
    "foveal.evaluation.metrics",
    "foveal.evaluation.paper_analyses",
    "foveal.training.config",
    "foveal.training.optimizer_state",
)
ELSEWHERE = {  # run by other tests, or scripts that need packages which foveal does not
    "foveal.networks.factory", "foveal.networks.spec", "foveal.reports.look", "benchmarks.birth_on_photographs",
}  # fmt: skip
PUBLIC = (
    "foveal.networks.load_weights.load_weights",
    "foveal.networks.recipes.list_models",
    "foveal.deployment.deploy.deploy",
    "foveal.deployment.export.export",
    "foveal.deployment.prune.prune_constant",
    "foveal.evaluation.paper_analyses.excitation_by_class",
    "foveal.evaluation.paper_analyses.pose_before_and_after",
    "foveal.evaluation.paper_analyses.selection_by_size",
    "foveal.training.config.CompareConfig",
    "foveal.training.config.RunConfig",
    "foveal.training.config.TrainConfig",
)


def modules() -> list[str]:
    names = [
        f"{package}.{each.name}"
        for package in PACKAGES
        for each in pkgutil.iter_modules(importlib.import_module(package).__path__)
        if not each.ispkg and not each.name.startswith("_")
    ]
    return sorted({*names, *MODULES} - ELSEWHERE)


@pytest.mark.parametrize("name", modules())
def test_examples_print_what_they_show(name):
    torch.manual_seed(0)
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_has_an_example(name):
    module, _, attribute = name.rpartition(".")
    found = getattr(importlib.import_module(module), attribute)
    assert doctest.DocTestFinder(recurse=False).find(found, attribute)[0].examples
