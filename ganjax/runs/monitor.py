"""Names the state of a game from the last rows of its log.

A step measures itself (`ganjax.objectives.measurements`), and the log writes
the numbers down. A `Monitor` reads each row on the host and says whether the
game has collapsed, saturated, diverged or come to its equilibrium. The
thresholds are the constants below.
"""

import collections
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from ganjax import errors

# A row of `metrics.jsonl`: name -> number, beside a few texts.
Row: TypeAlias = Mapping[str, Any]

# How many log rows in a row must agree before a diagnosis is named: one row
# is one batch, and a single batch is noisy.
PATIENCE = 3
# The game has begun once D's share of right answers was above this. Before, a
# D that has learnt nothing says one half, as it does at the equilibrium, and a
# G that has been told nothing may be as flat as a collapsed one.
TOLD_APART = 0.75
# How many rows a new generator has after that to find its way.
FIRST_ROWS = 5
# Equilibrium: the means of D(x) and D(G(z)) and D's share of right answers are
# all this near to one half,
NEAR_HALF = 0.1
# and the spread of the samples, relative to the data, lies between these.
ALIKE = (0.5, 2.0)
# Saturated: more than this share of D's gradient is lost.
SATURATED = 0.95
# Collapsed: the spread of the samples, relative to the data, is below this.
COLLAPSED = 0.1
# Diverged: the size of a loss or of the gap between logits is above this,
TOO_LARGE = 1e4
# or the spread of the samples, relative to the data, is above this.
SCATTERED = 20.0


def not_finite(row: Row) -> str:
  """Describes a number of the row that is not finite.

  Returns:
    "NAME is nan" or "NAME is inf", of a loss if one is not finite, since
    other numbers follow from it; "" if all numbers are finite.
  """
  losses_first = sorted(row.items(), key=lambda item: "loss" not in item[0])
  for name, value in losses_first:
    if isinstance(value, float) and not math.isfinite(value):
      return f"{name} is {value}"
  return ""


def _is_not_finite(row: Row) -> bool:
  return bool(not_finite(row))


def _diverged(row: Row) -> bool:
  sizes = [abs(row.get(k, 0.0)) for k in ("d_loss", "g_loss", "logit_gap")]
  scattered = row.get("spread", 1.0) > SCATTERED
  return scattered or any(size > TOO_LARGE for size in sizes)


def _generator_collapsed(row: Row) -> bool:
  return row.get("spread", 1.0) < COLLAPSED


def _discriminator_saturated(row: Row) -> bool:
  return row.get("d_saturation", 0.0) > SATURATED


def _equilibrium(row: Row) -> bool:
  # D(x) = 1/2 alone is not enough: a D that is always sure but wrong half of
  # the time has that mean, too. A row without a D defaults to 1.
  halves = [row.get("d_real", 1.0), row.get("d_fake", 1.0), _accuracy(row)]
  undecided = all(abs(half - 0.5) < NEAR_HALF for half in halves)
  low, high = ALIKE
  return undecided and low < row.get("spread", 0.0) < high


def _accuracy(row: Row) -> float:
  """Returns D's share of right answers, 1 if the row has no D."""
  real = row.get("d_real_accuracy", 1.0)
  fake = row.get("d_fake_accuracy", 1.0)
  return (real + fake) / 2


# The worst comes first: the first of these that holds is the diagnosis.
DIAGNOSES: dict[str, Callable[[Row], bool]] = {
  "not finite": _is_not_finite,
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
  names = {part.strip() for part in stop_when.split(",") if part.strip()}
  for name in sorted(names - DIAGNOSES.keys()):
    raise errors.unknown("config.stop_when", name, DIAGNOSES)
  return names


class Monitor:
  """Names the state of a game from its last log rows.

  Attributes:
    diagnosis: the name after the last row, a key of `DIAGNOSES`, or "".
    stop_when: the diagnoses at which the run is to stop.
  """

  def __init__(
    self, history: Iterable[Row] = (), stop_when: str = "", until: int = 0
  ):
    """Starts from the rows of a run so far.

    Args:
      history: rows of `metrics.jsonl`. A resumed run that is given them makes
        the same diagnoses as an unbroken one.
      stop_when: names of diagnoses, separated by commas.
      until: the last step of `history` that counts.

    Raises:
      UserError: there is no such diagnosis.
    """
    self.stop_when = names_of(stop_when)
    self.diagnosis = ""
    self._rows: collections.deque[Row] = collections.deque(maxlen=PATIENCE)
    self._num_rows = 0
    # Rows since the game began, the row at which it began included.
    self._num_rows_of_game = 0
    for row in history:
      if row["step"] <= until:
        self(row)

  def __call__(self, row: Row) -> str:
    """Takes one more row; returns the diagnosis after it, a name or ""."""
    if not row.keys() & {"d_loss", "loss"}:
      return self.diagnosis  # A row of an evaluation, which has scores alone.
    self._num_rows += 1
    if self._num_rows_of_game or _accuracy(row) > TOLD_APART:
      self._num_rows_of_game += 1
    self._rows.append(row)
    self.diagnosis = next((name for name in DIAGNOSES if self._holds(name)), "")
    return self.diagnosis

  @property
  def stop(self) -> bool:
    """Whether the run is to stop now."""
    return self.diagnosis in self.stop_when

  def _holds(self, name: str) -> bool:
    """Returns whether the last rows agree on a diagnosis."""
    holds_in = DIAGNOSES[name]
    if name == "not finite":  # Nothing heals it, so one row is enough.
      return holds_in(self._rows[-1])
    if name == "diverged":  # No generator that finds its way looks like this.
      enough = self._num_rows >= PATIENCE
    else:
      enough = self._num_rows_of_game >= PATIENCE + FIRST_ROWS
    return enough and all(holds_in(row) for row in self._rows)
