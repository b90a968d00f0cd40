"""The one line that says where a run is."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

# How a system is doing is for the curves: the line has no room for it.
HEALTH = frozenset(
  "d_real d_fake logit_gap d_grad_norm g_grad_norm d_saturation g_saturation "
  "spread d_sigma_max g_sigma_max augment_p".split()
)
HEALTH_PREFIX = "penalty_"


def line(
  step: int,
  num_steps: int,
  images_per_sec: float,
  seconds_left: float | None,
  scalars: Mapping[str, float],
  width: int | None,
  note: str = "",
) -> str:
  """Returns the progress line, at most `width` wide.

  Args:
    step: how many steps are done.
    num_steps: of how many.
    images_per_sec: 0 if not known yet.
    seconds_left: None if not known yet.
    scalars: name -> value. Losses and accuracies have their own form, those
      of `HEALTH` are left out, any other is name=value.
    width: in columns; None for any length, without a bar. What does not fit
      is shortened first and then left out from the right.
    note: shown last, in brackets, and left out last.
  """
  scalars = dict(scalars)
  # Each in full and in short.
  parts = [(f"{'step ' * (width is None)}{step}/{num_steps}",) * 2]
  if images_per_sec > 0:
    parts.append((f"{images_per_sec:.0f} images/s", f"{images_per_sec:.0f}/s"))
  if seconds_left is not None:
    left = timedelta(seconds=round(seconds_left))
    parts.append((f"{left} left",) * 2)
  for name, label in (("d_loss", "D loss"), ("g_loss", "G loss")):
    if name in scalars:
      value = scalars.pop(name)
      parts.append((f"{label} {value:.3f}", f"{label} {value:.2f}"))
  pair = "d_real_accuracy", "d_fake_accuracy"
  if scalars.keys() >= set(pair):
    real, fake = (f"{100 * scalars.pop(name):.0f}" for name in pair)
    both = f"D acc real / fake {real} / {fake} %"
    parts.append((both, f"D acc {real}/{fake}%"))
  for name, value in scalars.items():
    if name not in HEALTH and not name.startswith(HEALTH_PREFIX):
      parts.append((f"{name}={value:.4g}",) * 2)
  full, short = (list(column) for column in zip(*parts, strict=True))
  if width is None:
    return _join(full, note)
  shorter = [short[:count] for count in range(len(short), 0, -1)]
  texts = [_join(x, note) for x in [full, *shorter, *[[]] * bool(note)]]
  text = next((t for t in texts if len(t) <= width), texts[-1][:width])
  # The bar takes what is left, or is left out.
  size = min(width - len(text) - 2, 20)
  done = round(size * min(step / num_steps, 1))
  return f"{'━' * done}{'╌' * (size - done)}  {text}" if size >= 4 else text


def _join(parts: Sequence[str], note: str) -> str:
  return "  ".join([*parts, f"[{note}]"] if note else parts)
