"""Statistics of a place's attention weights over many images, without storing the weights.

Three kinds: over the images, for each entry; within each image, averaged over the images; and a histogram, for
quantiles. Counts, means and variances of two parts are merged exactly (Chan et al., 1979), so a pass costs a few
reductions over its weights and memory does not grow with the number of images.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from foveal.core.layout import Tokens
from foveal.core.record import Facts, Record

BINS = 256  # of the histogram, over `value_range`


@dataclass(frozen=True, kw_only=True, eq=False)
class Moments:
    """Mean, population variance, smallest and largest value; all of one shape."""

    mean: Tensor
    variance: Tensor
    smallest: Tensor
    largest: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Statistics(Facts):
    """Statistics of one place, as recorded by `watch(model, keep="statistics")`."""

    path: str
    count: int  # images
    across_images: Moments  # over the images; shape of a Record's values without B
    within_image: Moments  # over the channels or positions of one image, averaged over the images
    histogram: Tensor | None  # counts in `BINS` equal parts of `value_range`; None if that is unbounded
    forward: int = 0
    call: int = 0
    tokens: Tokens | None = None  # layouts of an affinity's queries and keys, as of a Record

    def quantile(self, q: float) -> float:
        """Return the weight below which a share q of all entries lies, to within `value_range` / `BINS`.

        Raises:
            ValueError: q outside [0, 1], or weights without a bounded range.
        """
        if not 0 <= q <= 1:
            raise ValueError(f"q={q}: a share in [0, 1] is needed")
        if self.histogram is None:
            raise ValueError(f"{self.path!r}: weights {self.value_range} without a bounded range have no quantiles")
        low, high = self.value_range
        shares = self.histogram.cumsum(0) / self.histogram.sum()
        below = int((shares < q).sum())  # whole bins
        before = float(shares[below - 1]) if below else 0.0
        part = (q - before) / (float(shares[below]) - before) if shares[below] > before else 0.0
        return low + (high - low) * (below + part) / BINS


def summarize(record: Record) -> Statistics:
    """Return the statistics of a Record's images."""
    values = record.values.float()
    facts = {field.name: getattr(record, field.name) for field in fields(Facts)}
    bounded = record.value_range[1] - record.value_range[0] < float("inf")
    return Statistics(
        **facts,
        path=record.path,
        count=len(values),
        across_images=moments(values, (0,)),
        within_image=averaged(moments(values, inner(record))),
        histogram=torch.histc(values.clamp(*record.value_range), BINS, *record.value_range).double()
        if bounded
        else None,
        forward=record.forward,
        call=record.call,
        tokens=record.tokens,
    )


def inner(record: Record) -> tuple[int, ...]:
    """Return the dimensions of channels and positions, over which one image's weights are reduced; else all."""
    letters = record.axes.split()
    along = {"C", "H", "W", "Q", "Y", "X"} | ({"K"} if record.kind == "affinity" else set())
    return tuple(i for i, letter in enumerate(letters) if letter in along) or tuple(range(1, len(letters)))


def moments(values: Tensor, dims: tuple[int, ...]) -> Moments:
    """Return the moments of values over some dimensions."""
    variance, mean = torch.var_mean(values, dims, correction=0)
    return Moments(
        mean=mean.double(), variance=variance.double(), smallest=values.amin(dims), largest=values.amax(dims)
    )


def averaged(each: Moments) -> Moments:
    """Return the means of moments over the images."""
    return Moments(**{name: value.double().mean(0) for name, value in vars(each).items()})


def check_one_layout(path: str, tokens: Iterable[Tokens | None]) -> None:
    """Raise ValueError for tokens of several layouts on the image, which mean different positions."""
    layouts = dict.fromkeys((each.queries, each.keys) if each else (None, None) for each in tokens)
    if len(layouts) > 1:
        known = [keys or queries for queries, keys in layouts]
        shown = " and ".join(f"{each.rows}x{each.columns}" if each else "an unknown map" for each in known)
        raise ValueError(
            f"{path!r}: images of several sizes, with tokens of {shown}, cannot be joined; watch each size alone"
        )


def merge(first: Statistics, second: Statistics) -> Statistics:
    """Return the statistics of both parts' images.

    Raises:
        ValueError: maps of several sizes, or tokens of several layouts.
    """
    if first.across_images.mean.shape != second.across_images.mean.shape:
        shapes = {tuple(first.across_images.mean.shape), tuple(second.across_images.mean.shape)}
        raise ValueError(f"{first.path!r}: images of several sizes give {shapes}, which cannot be merged")
    check_one_layout(first.path, [first.tokens, second.tokens])
    count = first.count + second.count
    share = second.count / count
    a, b = first.across_images, second.across_images
    across_images = Moments(
        mean=a.mean.lerp(b.mean, share),
        variance=a.variance.lerp(b.variance, share) + share * (1 - share) * (a.mean - b.mean) ** 2,
        smallest=a.smallest.minimum(b.smallest),
        largest=a.largest.maximum(b.largest),
    )
    within_image = Moments(
        **{
            name: value.lerp(getattr(second.within_image, name), share)
            for name, value in vars(first.within_image).items()
        }
    )
    histogram = None
    if first.histogram is not None and second.histogram is not None:
        histogram = first.histogram + second.histogram
    return Statistics(
        **{
            **vars(first),
            "count": count,
            "across_images": across_images,
            "within_image": within_image,
            "histogram": histogram,
        }
    )
