"""Ranges: what a parameter may be, said beside the parameter.

A config is checked before anything compiles. What it may say of a thing is the
thing's own signature; a range in an annotation is part of that signature:

    def drift(weight: AtLeast0 = 1e-3): ...

    class Critic(nn.Module):
      width: Count = 64
      hidden: Counts = (240, 240)
      order: Annotated[int, Range("1 or 2", lambda x: x in (1, 2))] = 1

To Python and to type checkers these are plain numbers and tuples of numbers.
"""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, TypeAlias

# Whole numbers of JAX have 32 bits.
LARGEST_INT = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class Range:
  """Which numbers a parameter may be; of a tuple, each of its items.

  Attributes:
    text: the range in words, for errors: "1 or more".
    contains: whether a number lies in it.
    largest: the largest whole number that it may hold.
  """

  text: str
  contains: Callable[[Any], bool]
  largest: int = LARGEST_INT


@dataclasses.dataclass(frozen=True)
class Choice:
  """Which texts a parameter may be."""

  names: tuple[str, ...]


ABOVE_0 = Range("above 0", lambda x: x > 0)
AT_LEAST_0 = Range("0 or more", lambda x: x >= 0)
AT_LEAST_1 = Range("1 or more", lambda x: x >= 1)
FROM_0_TO_1 = Range("from 0 to 1", lambda x: 0 <= x <= 1)
BELOW_1 = Range("at least 0 and below 1", lambda x: 0 <= x < 1)
# NumPy's RandomState takes no others.
SEED = Range("from 0 to 2**32 - 1", lambda x: 0 <= x < 2**32, largest=2**32)

# Whole numbers.
Count: TypeAlias = Annotated[int, AT_LEAST_1]
CountFrom0: TypeAlias = Annotated[int, AT_LEAST_0]
Counts: TypeAlias = Annotated[tuple[int, ...], AT_LEAST_1]
Seed: TypeAlias = Annotated[int, SEED]
# Numbers.
Above0: TypeAlias = Annotated[float, ABOVE_0]
AtLeast0: TypeAlias = Annotated[float, AT_LEAST_0]
Probability: TypeAlias = Annotated[float, FROM_0_TO_1]
Decay: TypeAlias = Annotated[float, BELOW_1]
