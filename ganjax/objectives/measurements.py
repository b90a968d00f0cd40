"""What a step measures of itself, and the names of what goes wrong.

The measurements are part of the jitted step and stay on the device; a `Monitor`
reads them once a log interval. Its thresholds are the constants below.
"""

import collections
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ganjax import errors, parallel
from ganjax.objectives.losses import Loss
from ganjax.state import SPECTRAL

# A diagnosis must hold in so many log rows one after another.
PATIENCE = 3
# A game has begun once D was right about so many of reals and fakes: one half
# is also what a D says that has learnt nothing, and flat is also a generator
# that was never told anything.
TOLD_APART = 0.75
# Rows after that in which a new generator may find its way.
FIRST_ROWS = 5
# Equilibrium: mean D(x), mean D(G(z)) and the share of right answers this near
# to one half, samples about as spread as the data.
NEAR_HALF = 0.1
ALIKE = (0.5, 2.0)
# Saturated: so much of D's gradient is gone.
SATURATED = 0.95
# Collapsed: samples so much less spread than the data.
COLLAPSED = 0.1
# Diverged: a loss or a difference of logits above, or samples this much more
# spread than the data.
TOO_LARGE = 1e4
SCATTERED = 20.0


def of_logits(
  loss: Loss, real_logits: jax.Array, fake_logits: jax.Array
) -> dict[str, jax.Array]:
  """Returns what D's logits of the global batch say, each a scalar.

  Args:
    loss: says which D(x) a logit stands for. Where only differences count,
      logits are taken from the middle between both means.
    real_logits: `[N]`.
    fake_logits: `[N]`.

  Returns:
    `d_real_accuracy` and `d_fake_accuracy`, the shares on the right side of
    one half; `d_real` and `d_fake`, mean D(x) and D(G(z)); `logit_gap`, mean
    real minus mean fake logit; `d_saturation`, see `lost`.
  """
  real, fake = (x.astype(jnp.float32) for x in (real_logits, fake_logits))
  gap = real.mean() - fake.mean()
  middle = fake.mean() + gap / 2 if loss.shift_invariant else 0.0
  d_real, d_fake = (loss.probability(x - middle) for x in (real, fake))
  pulls = [
    lost(loss.discriminator, i, loss.weights[0], real, fake) for i in (0, 1)
  ]
  return dict(
    d_real_accuracy=jnp.mean(d_real > 0.5),
    d_fake_accuracy=jnp.mean(d_fake < 0.5),
    d_real=d_real.mean(),
    d_fake=d_fake.mean(),
    logit_gap=gap,
    d_saturation=(pulls[0] + pulls[1]) / 2,
  )


def lost(
  loss: Callable, argnum: int, weight: float, real: jax.Array, fake: jax.Array
) -> jax.Array:
  """Returns the share of a gradient that saturation takes, a scalar in [0, 1].

  A linear loss pulls at every logit with weight / N. This is how far the mean
  pull falls short of that: 0 for a Wasserstein critic, 1 - D(G(z)) for the
  minimax generator, 1 where nothing is left to learn from.

  Args:
    loss: `(real_logits [N], fake_logits [N]) -> scalar`.
    argnum: 0 for the pull at the real logits, 1 for that at the fake ones.
    weight: of the loss.
    real: logits `[N]`.
    fake: logits `[N]`.
  """
  pull = jnp.abs(jax.grad(loss, argnum)(real, fake)) * len(real) / weight
  return jax.nn.relu(1.0 - pull).mean()


def of_generator(
  loss: Loss, real_logits: jax.Array, fake_logits: jax.Array
) -> dict[str, jax.Array]:
  """Returns `g_saturation`, the share of G's gradient that is `lost`."""
  real, fake = (x.astype(jnp.float32) for x in (real_logits, fake_logits))
  return dict(g_saturation=lost(loss.generator, 1, loss.weights[1], real, fake))


def of_images(
  real: jax.Array, fake: jax.Array, axis_name: str | None = None
) -> dict[str, jax.Array]:
  """Returns `spread`, that of fakes relative to reals.

  Args:
    real: images `[n, ...]`.
    fake: images `[n, ...]`.
    axis_name: the mapped axis, or None.

  Returns:
    The ratio of the root mean square distances from the global batch's mean
    image: 0 if all fakes are the same, 1 at the optimum.
  """

  def squares(images):
    images = images.astype(jnp.float32)
    centre = parallel.mean(images.mean(0, keepdims=True), axis_name)
    return parallel.mean(jnp.square(images - centre).mean(), axis_name)

  ratio = squares(fake) / jnp.maximum(squares(real), 1e-12)
  return dict(spread=jnp.sqrt(ratio))


def of_stats(player: str, stats: Any) -> dict[str, jax.Array]:
  """Returns `d_sigma_max`, the largest kernel norm, if spectral norm is on.

  Args:
    player: "d" or "g".
    stats: collections of the player's network.
  """
  leaves = jax.tree.leaves(stats.get(SPECTRAL, {}))
  sigmas = [x for x in leaves if x.ndim == 0]
  return {f"{player}_sigma_max": jnp.stack(sigmas).max()} if sigmas else {}


Row = Mapping[str, Any]


def not_finite(row: Row) -> str:
  """Returns a number of the row that is not finite, a loss if one is, or ""."""
  for name, value in sorted(row.items(), key=lambda x: "loss" not in x[0]):
    if isinstance(value, float) and not math.isfinite(value):
      return f"{name} is {value}"
  return ""


def _diverged(row: Row) -> bool:
  values = (row.get(k, 0.0) for k in ("d_loss", "g_loss", "logit_gap"))
  scattered = row.get("spread", 1.0) > SCATTERED
  return scattered or any(abs(v) > TOO_LARGE for v in values)


def _generator_collapsed(row: Row) -> bool:
  return row.get("spread", 1.0) < COLLAPSED


def _discriminator_saturated(row: Row) -> bool:
  return row.get("d_saturation", 0.0) > SATURATED


def _equilibrium(row: Row) -> bool:
  values = row.get("d_real", 1.0), row.get("d_fake", 1.0), _accuracy(row)
  low, high = ALIKE
  half = all(abs(v - 0.5) < NEAR_HALF for v in values)
  return half and low < row.get("spread", 0.0) < high


def _accuracy(row: Row) -> float:
  """Returns D's share of right answers, 1 where there is no D."""
  return (row.get("d_real_accuracy", 1.0) + row.get("d_fake_accuracy", 1.0)) / 2


# The first that holds is the diagnosis: the worst comes first.
DIAGNOSES: dict[str, Callable[[Row], bool]] = {
  "not finite": lambda row: bool(not_finite(row)),
  "diverged": _diverged,
  "generator collapsed": _generator_collapsed,
  "discriminator saturated": _discriminator_saturated,
  "equilibrium": _equilibrium,
}


def names_of(stop_when: str) -> set[str]:
  """Returns the diagnoses in a text that separates them by commas.

  Raises:
    UserError: there is no such diagnosis.
  """
  names = {s.strip() for s in stop_when.split(",") if s.strip()}
  for name in sorted(names - DIAGNOSES.keys()):
    raise errors.unknown("config.stop_when", name, DIAGNOSES)
  return names


class Monitor:
  """Names the state of a game from its last log rows."""

  def __init__(
    self, history: Iterable[Row] = (), stop_when: str = "", until: int = 0
  ):
    """Starts from the rows of a run so far.

    Args:
      history: rows of `metrics.jsonl`, so that a resumed run's diagnoses are
        those of an unbroken one.
      stop_when: names of diagnoses, separated by commas.
      until: the last step of `history` that counts.

    Raises:
      UserError: there is no such diagnosis.
    """
    self.stop_when = names_of(stop_when)
    self._rows = collections.deque(maxlen=PATIENCE)
    self._count = 0
    self._begun = 0  # Rows since the game began, that one included.
    self.diagnosis = ""
    for row in history:
      if row["step"] <= until:
        self(row)

  def __call__(self, row: Row) -> str:
    """Returns the diagnosis after one more row: a name, or ""."""
    if row.keys() & {"d_loss", "loss"}:  # Others hold scores alone.
      self._count += 1
      self._begun += self._begun > 0 or _accuracy(row) > TOLD_APART
      self._rows.append(row)
      self.diagnosis = next((n for n in DIAGNOSES if self._holds(n)), "")
    return self.diagnosis

  @property
  def stop(self) -> bool:
    """Whether the run is to stop now."""
    return self.diagnosis in self.stop_when

  def _holds(self, name: str) -> bool:
    if name == "not finite":
      return DIAGNOSES[name](self._rows[-1])
    enough = self._count >= PATIENCE
    if name != "diverged":
      enough = self._begun >= PATIENCE + FIRST_ROWS
    return enough and all(map(DIAGNOSES[name], self._rows))
