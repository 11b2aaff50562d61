"""Generate one page for each mechanism from its docstrings: formula, picture of records, cost, departures, citation.

python docs/make.py [NAME ...]   write all pages or the named ones, with measured costs (one thread, a minute)
python docs/make.py --pictures   also write the pictures: train each mechanism on digits (some minutes)
python docs/make.py --catalogs   write only the catalogs that `foveal list` reads, with new counts
python docs/make.py --check      compare pages with docstrings and catalogs with counts; write nothing
"""

import inspect
import json
import sys
import tempfile
from pathlib import Path
from textwrap import dedent

import torch
from torch import nn

import foveal
from foveal.inspection.drawing.picture import save_pages
from foveal.mechanisms.catalog import CHANNELS
from foveal.mechanisms.registry import MECHANISMS, long_name
from foveal.networks.catalog import IMAGENET, IMAGES, classes_of
from foveal.networks.recipes import NAMES
from foveal.profiling.costs import count_macs, count_parameters, saved_bytes
from foveal.profiling.timing import ROUNDS, time_inference
from foveal.reports.look import look
from foveal.training.config import RunConfig

DOCS = Path(__file__).resolve().parent
PACKAGE = Path(foveal.__file__).resolve().parent
PAGES = DOCS / "mechanisms"
STAGES = ((256, 56, 56), (512, 28, 28), (1024, 14, 14), (2048, 7, 7))  # output shapes of a ResNet-50's stages
SHAPES = (
    (1, 64, 64),
    (1, 128, 128),
    (1, 256, 256),
    (1, 512, 512),
)  # for mechanisms on images, not on feature maps
BATCH = 8
RUNS = {  # training runs for the pictures; all other mechanisms: small_cnn+NAME on digits/cluttered
    "stn": RunConfig(model="small_cnn+stn", data="digits/rts"),
    "glimpse": RunConfig(model="ram", data="digits/cluttered", epochs=80, lr=1e-3),
    "hard_crop": RunConfig(model="small_cnn+hard_crop:size=64", data="digits/scene"),
}


def paragraphs(text: str) -> list[str]:
    """Split a docstring into paragraphs."""
    return [part.strip("\n") for part in dedent(text).split("\n\n")]


def sentence(words: str) -> str:
    """Capitalize the first letter."""
    return words[0].upper() + words[1:]


def page(name: str) -> str:
    """Write a page without its cost section."""
    mechanism = MECHANISMS[name]
    title, *parts = paragraphs(inspect.getmodule(mechanism).__doc__)
    formula = [part for part in parts if part.startswith("    ")]
    departures = [part for part in parts if part.startswith("Departure")]
    remarks = [part for part in parts if part not in formula and part not in departures]
    return "\n\n".join(
        [
            f"# {mechanism.__name__}: `{name}`",
            title,
            "## Formula",
            "```text\n" + dedent("\n\n".join(formula)) + "\n```",
            *remarks,
            "## Departures",
            *[sentence(part.partition(": ")[2]) for part in departures or ["Departures: none."]],
            "## What is recorded",
            f"![what `foveal look` draws of a network with {name}]({name}.png)",
            "## Use",
            "```text\n" + inspect.cleandoc(mechanism.__doc__) + "\n```",
            "## Citation",
            f"{mechanism.paper}, [arXiv:{mechanism.arxiv}](https://arxiv.org/abs/{mechanism.arxiv}).",
        ]
    )


def cost_table(name: str) -> str:
    """Write the cost section: a mechanism at the stages of a ResNet-50, or a mechanism on images with its network."""
    run = RUNS[name] if MECHANISMS[name].hard else None
    inputs = f"images, the complete network `{run.model}`" if run else "feature maps"
    head = [
        "## Cost",
        f"For {BATCH} {inputs}: milliseconds of a forward pass on one thread (median of {ROUNDS}), and memory\n"
        "saved for the backward pass, relative to the input's.",
        "| channels | size | parameters | MMACs each | ms | saved |\n| ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    if run:
        rows = [cost_row(foveal.create_model(run.model, num_classes=10, in_chans=shape[0]), shape) for shape in SHAPES]
    else:
        rows = [cost_row(MECHANISMS[name](shape[0]), shape) for shape in STAGES]
    return "\n\n".join(head) + "\n" + "\n".join(rows)


def cost_row(module: nn.Module, shape: tuple[int, int, int]) -> str:
    """Measure one row of the cost table."""
    channels, height, width = shape
    counted = f"{count_parameters(module):,} | {count_macs(module, shape) / 1e6:,.2f}"
    measured = f"{milliseconds(module, shape):.1f} | {saved_share(module, shape):.1f}"
    return f"| {channels} | {height}x{width} | {counted} | {measured} |"


def milliseconds(module: nn.Module, shape: tuple[int, int, int]) -> float:
    """Measure the milliseconds of a forward pass."""
    return time_inference({"": module}, torch.rand(BATCH, *shape))[""]


def saved_share(module: nn.Module, shape: tuple[int, int, int]) -> float:
    """Compute the bytes that autograd saves in a forward pass, without parameters, relative to the input's bytes."""
    x = torch.rand(BATCH, *shape, requires_grad=True)
    return saved_bytes(lambda: module.train()(x), module.parameters()) / x.untyped_storage().nbytes()


def draw_page(name: str) -> None:
    """Train a small network with a mechanism on digits, and draw its attention."""
    with tempfile.TemporaryDirectory() as folder:
        settings = RUNS.get(name) or RunConfig(model=f"small_cnn+{name}", data="digits/cluttered")
        foveal.train(settings, folder)
        save_pages(look(folder, [settings.data], most=3).pictures(), PAGES / f"{name}.png", overwrite=True)


def stale() -> list[str]:
    """List the mechanisms with pages that differ from their docstrings."""
    paths = {name: PAGES / f"{name}.md" for name in MECHANISMS}
    return [name for name, path in paths.items() if not (path.is_file() and page(name) in path.read_text())]


def mechanism_facts() -> list[dict[str, object]]:
    """Compute the entries of `foveal.mechanisms.catalog` from the classes."""
    return [
        {
            "name": name,
            "long_name": long_name(mechanism),
            "domain": mechanism.domain,
            "kind": "hard" if mechanism.hard else "soft",
            "attaches": mechanism.attaches,
            "parameters": count_parameters(mechanism(CHANNELS)),
            "paper": mechanism.paper,
        }
        for name, mechanism in MECHANISMS.items()
    ]


def network_facts() -> dict[str, dict[str, int]]:
    """Compute the entries of `foveal.networks.catalog`: parameters and MACs, counted on the meta device."""
    facts = {}
    for name in NAMES:
        image = IMAGES.get(name, IMAGENET)
        with torch.device("meta"):
            model = foveal.create_model(name, num_classes=classes_of(image), in_chans=image[0])
        facts[name] = {"parameters": count_parameters(model), "macs": count_macs(model, image)}
    return facts


def catalogs() -> dict[Path, str]:
    """Return path and text of both catalogs, with one line for each entry."""
    rows = ",\n".join(f" {json.dumps(each, ensure_ascii=False)}" for each in mechanism_facts())
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(each)}" for name, each in network_facts().items())
    return {
        PACKAGE / "mechanisms/catalog.json": f"[\n{rows}\n]\n",
        PACKAGE / "networks/catalog.json": f"{{\n{lines}\n}}\n",
    }


def main() -> None:
    if PACKAGE.parent != DOCS.parent:
        sys.exit(f"docs/make.py: Python imports foveal from {PACKAGE}, not from beside {DOCS}")
    if "--check" in sys.argv:
        wrong = [*stale(), *(str(path) for path, text in catalogs().items() if path.read_text() != text)]
        sys.exit(f"docs/make.py: stale: {', '.join(wrong)}" if wrong else 0)
    if "--catalogs" in sys.argv:
        for path, text in catalogs().items():
            path.write_text(text)
            print(path)
        return
    torch.set_num_threads(1)
    PAGES.mkdir(exist_ok=True)
    for name in [argument for argument in sys.argv[1:] if argument in MECHANISMS] or MECHANISMS:
        (PAGES / f"{name}.md").write_text(f"{page(name)}\n\n{cost_table(name)}\n")
        if "--pictures" in sys.argv:
            draw_page(name)
        print(PAGES / f"{name}.md")


if __name__ == "__main__":
    main()
