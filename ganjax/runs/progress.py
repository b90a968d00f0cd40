"""The one line that says where a run is."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import NamedTuple

# How a system is doing is for the curves: the line has no room for it.
HEALTH = frozenset(
  {
    "d_real",
    "d_fake",
    "logit_gap",
    "d_grad_norm",
    "g_grad_norm",
    "d_saturation",
    "g_saturation",
    "spread",
    "d_sigma_max",
    "g_sigma_max",
    "augment_p",
  }
)
HEALTH_PREFIX = "penalty_"

LOSSES = {"d_loss": "D loss", "g_loss": "G loss"}
ACCURACIES = ("d_real_accuracy", "d_fake_accuracy")

MIN_BAR = 4  # columns: a shorter bar shows nothing
MAX_BAR = 20


class _Part(NamedTuple):
  """One of the things that the line says.

  Attributes:
    full: as it is shown where there is room.
    short: as it is shown where there is little.
  """

  full: str
  short: str


def line(
  step: int,
  num_steps: int,
  images_per_sec: float,
  seconds_left: float | None,
  scalars: Mapping[str, float],
  width: int | None,
  note: str = "",
) -> str:
  """Returns the progress line.

  On a narrow terminal all parts are shortened first, and then left out from
  the right; the note goes last.

  Args:
    step: how many steps are done.
    num_steps: how many steps the run has.
    images_per_sec: the speed; 0 if it is not known yet.
    seconds_left: until the run ends; None if it is not known yet.
    scalars: name -> value. Losses and accuracies have their own form, those
      of `HEALTH` are left out, any other is shown as name=value.
    width: the columns of the terminal, which the line does not exceed; None
      for a line of any length without a bar, as for a file.
    note: the end of the line, in brackets; "" for none.
  """
  prefix = "step " if width is None else ""
  place = f"{prefix}{step}/{num_steps}"
  parts = [
    _Part(place, place),
    *_speed(images_per_sec, seconds_left),
    *_numbers(scalars),
  ]
  full = _join([part.full for part in parts], note)
  if width is None:
    return full
  short = [part.short for part in parts]
  # From the longest to the shortest.
  candidates = [full]
  candidates += [
    _join(short[:count], note) for count in range(len(short), 0, -1)
  ]
  if note:
    candidates.append(_join([], note))
  fitting = [text for text in candidates if len(text) <= width]
  text = fitting[0] if fitting else candidates[-1][:width]
  # The bar takes what is left of the width, two columns apart.
  size = min(width - len(text) - 2, MAX_BAR)
  if size < MIN_BAR:
    return text
  done = round(size * min(step / num_steps, 1))
  return f"{'━' * done}{'╌' * (size - done)}  {text}"


def _speed(
  images_per_sec: float, seconds_left: float | None
) -> Iterator[_Part]:
  """Yields the speed and the time left, as far as they are known."""
  if images_per_sec > 0:
    yield _Part(f"{images_per_sec:.0f} images/s", f"{images_per_sec:.0f}/s")
  if seconds_left is not None:
    left = f"{timedelta(seconds=round(seconds_left))} left"
    yield _Part(left, left)


def _numbers(scalars: Mapping[str, float]) -> Iterator[_Part]:
  """Yields losses, accuracies, and what other systems log."""
  for name, label in LOSSES.items():
    if name in scalars:
      value = scalars[name]
      yield _Part(f"{label} {value:.3f}", f"{label} {value:.2f}")
  own_form = {*LOSSES}
  if scalars.keys() >= set(ACCURACIES):
    own_form.update(ACCURACIES)
    real, fake = (f"{100 * scalars[name]:.0f}" for name in ACCURACIES)
    yield _Part(f"D acc real / fake {real} / {fake} %", f"D acc {real}/{fake}%")
  for name, value in scalars.items():
    health = name in HEALTH or name.startswith(HEALTH_PREFIX)
    if name not in own_form and not health:
      text = f"{name}={value:.4g}"
      yield _Part(text, text)


def _join(parts: Sequence[str], note: str) -> str:
  """Returns the parts two columns apart, the note in brackets behind them."""
  noted = [*parts, f"[{note}]"] if note else parts
  return "  ".join(noted)
