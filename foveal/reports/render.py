"""The HTML of the pages, and how it is filled. A page is one file that asks for no other, which its policy enforces."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def fill(name: str, **facts: Any) -> str:
    """A template with its facts, escaped; a `Picture` among them becomes an img that holds its own data."""
    pages = Environment(
        loader=PackageLoader("foveal.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return pages.get_template(name).render(**facts)
