"""Points in the plane: the sets on which GANs drop modes in plain sight.

`ring` and `grid` are those of unrolled GANs (Metz et al., 2017) and PacGAN
(Lin et al., 2018), scaled to fit into [-1, 1]: a ring of radius 2 with std
0.02 has here radius 0.8 and std 0.008; a grid with spacing 2 and std 0.05 has
spacing 0.4 and std 0.01.
"""

import numpy as np

from ganjax import data, errors, registry

KINDS = registry.Registry("toy kind")
_SPLITS = ("train", "test")


@data.register(name="toy")
def load(
  split: str = "train",
  kind: str = "ring",
  num_examples: int = 10_000,
  std: float = 0.01,
  seed: int = 0,
) -> data.Arrays:
  """Draws points of a 2-D distribution, mostly within [-1, 1].

  Args:
    split: "train" or "test": independent draws.
    kind: "ring" (8 Gaussians), "grid" (25 Gaussians), "line" or "spiral".
    num_examples: how many points, of either split.
    std: standard deviation of the noise, in both coordinates.
    seed: chooses the draw; the same on every machine.

  Returns:
    float32 points `[N, 2]`; int32 labels `[N]`, the index of each point's
    mode in `centres(kind)`, or None where the kind has no modes.

  Raises:
    UserError: no such split or kind, or a number out of range.
  """
  if split not in _SPLITS:
    raise errors.unknown("split", split, _SPLITS)
  if num_examples < 1:
    raise errors.UserError(
      f"toy: num_examples is {num_examples}, it must be at least 1"
    )
  if not 0 <= std < np.inf:
    raise errors.UserError(f"toy: std is {std}, it must be at least 0")
  if not 0 <= seed < 2**32:
    raise errors.UserError(f"toy: seed is {seed}, it must be in [0, 2**32)")
  make = KINDS.find(kind)
  # RandomState's stream is frozen (NEP 19): the points never change.
  rng = np.random.RandomState([seed, _SPLITS.index(split)])
  points, labels = make(rng.uniform(size=num_examples))
  points = points + std * rng.normal(size=points.shape)
  num_classes = 0 if labels is None else len(centres(kind))
  return data.Arrays(points.astype(np.float32), labels, num_classes)


def centres(kind: str) -> np.ndarray:
  """Returns the centres of a kind's Gaussians, float64 `[num_modes, 2]`.

  Raises:
    UserError: there is no such kind, or it is not made of Gaussians.
  """
  if kind not in CENTRES:
    raise errors.unknown("toy kind with modes", kind, CENTRES)
  return CENTRES[kind]


@KINDS.register
def ring(u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Maps uniform `u` `[N]` to one of 8 points on a circle of radius 0.8."""
  return _choose(u, CENTRES["ring"])


@KINDS.register
def grid(u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Maps uniform `u` `[N]` to one of 5x5 points with spacing 0.4."""
  return _choose(u, CENTRES["grid"])


@KINDS.register
def line(u: np.ndarray) -> tuple[np.ndarray, None]:
  """Maps uniform `u` `[N]` to the diagonal from (-0.8, -0.8) to (0.8, 0.8)."""
  t = 1.6 * u - 0.8
  return np.stack([t, t], axis=-1), None


@KINDS.register
def spiral(u: np.ndarray) -> tuple[np.ndarray, None]:
  """Maps uniform `u` `[N]` to a spiral of two turns, from 0.1 to 0.9."""
  # With the square root the points lie about evenly along the curve.
  t = np.sqrt(u)
  radius = 0.1 + 0.8 * t
  angle = 4 * np.pi * t
  return radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], -1), None


def _choose(u: np.ndarray, modes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Maps uniform `u` `[N]` to points of `modes` `[K, 2]` and their numbers."""
  labels = (u * len(modes)).astype(np.int32)
  return modes[labels], labels


def _ring_centres() -> np.ndarray:
  angles = 2 * np.pi * np.arange(8) / 8
  return 0.8 * np.stack([np.cos(angles), np.sin(angles)], axis=-1)


def _grid_centres() -> np.ndarray:
  side = np.linspace(-0.8, 0.8, 5)
  return np.stack(np.meshgrid(side, side, indexing="ij"), -1).reshape(25, 2)


CENTRES = {"ring": _ring_centres(), "grid": _grid_centres()}
