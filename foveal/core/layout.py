"""Layout of the tokens of a transformer on the image."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """Layout of tokens on a map: `num_prefix_tokens` tokens, then the map row by row.

    `names` are those of the prefix tokens, such as "class token"; without it a single one is taken for a class token.
    """

    num_prefix_tokens: int
    rows: int
    columns: int
    names: tuple[str, ...] | None = None

    @property
    def centre(self) -> tuple[int, int]:
        """Row and column of the centre."""
        return self.rows // 2, self.columns // 2

    @property
    def middle(self) -> int:
        """Index of the token at the centre."""
        return self.num_prefix_tokens + self.centre[0] * self.columns + self.centre[1]

    @property
    def starts_with_class_token(self) -> bool:
        """Return True if the first token is a class token."""
        return self.num_prefix_tokens == 1 if self.names is None else self.names[:1] == ("class token",)

    def map(self, weights: Tensor) -> Tensor:
        """Reshape weights of the keys (..., K) to a map (..., rows, columns), without the prefix tokens."""
        return weights[..., self.num_prefix_tokens :].unflatten(-1, (self.rows, self.columns))


@dataclass(frozen=True)
class Tokens:
    """Layouts of an affinity's queries and keys, as a pass over the model showed them; None where it has none.

    `why` is the reason for which the keys have none.
    """

    queries: Layout | None = None
    keys: Layout | None = None
    why: str = ""
