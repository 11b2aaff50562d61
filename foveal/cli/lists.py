"""The subcommand `list`: mechanisms, networks, placements."""

from dataclasses import astuple

from rich.table import Table

from foveal.cli.console import console, in_millions


def list_names(*, models: bool = False, placements: bool = False) -> None:
    """List the mechanisms with their properties, the networks, or the placements.

    Parameters
    ----------
    models
        Print the networks instead.
    placements
        Print instead after which module of each known block attention is attached.
    """
    if models:
        list_networks()
        return
    if placements:
        from foveal.surgery.placement import list_placements

        table = Table("family", "blocks", "attached", "sk replaces", "positions", box=None)
        for row in list_placements():
            table.add_row(*astuple(row))
        console.print(table)
        print("and by at='residual' at the end of every residual branch of any other network")
        return
    from foveal.mechanisms.catalog import CHANNELS, list_mechanisms

    table = Table("name", "long name", "domain", "kind", "attached", f"parameters at {CHANNELS}", "paper", box=None)
    for each in list_mechanisms():
        table.add_row(
            each.name, each.long_name, each.domain, each.kind, each.attaches, f"{each.parameters:,}", each.paper
        )
    console.print(table)


def list_networks() -> None:
    """Print a row for each network: our figures and the paper's, in millions."""
    from foveal.networks.catalog import Reported, describe_models

    table = Table("name", "made of", box=None, pad_edge=False)
    for head in ("image", "weights", "paper", "MACs", "paper"):
        table.add_column(head, justify="right")
    table.add_column("source")
    for each in describe_models():
        reported = each.reported or Reported("")
        table.add_row(
            each.name,
            f"{each.backbone}+{each.mechanism}" if each.mechanism else "",
            str(each.image[-1]),
            in_millions(each.parameters / 1e6),
            in_millions(reported.parameters),
            in_millions(each.macs / 1e6),
            in_millions(reported.macs),
            reported.source,
        )
    console.print(table)
    print(
        "weights and MACs in millions, for one image of that side (Hu et al., 2018; Li et al., 2019; Woo et al., 2018)"
    )
    print("and any timm network, alone or with attention: resnet18+cbam, convnext_tiny+se")
