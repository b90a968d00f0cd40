"""The same latents within narrower bounds: quality against variety.

Brock et al. 2019, section 3.1: components of z beyond a bound are drawn anew.
"""

import pathlib
from typing import Any

import numpy as np
from scipy.spatial import distance

from ganjax.evaluation import metrics
from ganjax.runs import plots
from ganjax.tools.analyze import pages
from ganjax.tools.analyze.subject import COLOURS, Batch, Subject

BOUNDS = (0.2, 0.5, 1.0, 2.0, 0.0)  # The last is none.
NO_BOUND, HELD_OUT = "no bound", "held-out"
COLUMNS = 12
MAX_NUM = 500  # samples of which all pairs are compared


def mean_distance(places: np.ndarray) -> float:
  """Returns the mean Euclidean distance of all pairs among `[n, d]`."""
  return float(distance.pdist(places).mean())


def draw(subject: Subject, path: pathlib.Path) -> tuple[str, dict[str, Any]]:
  """Draws one row a bound, with Fréchet and mean pairwise distance."""
  subject.run.latents(1, subject.seed, BOUNDS[0])  # Raises if they have none.
  # As many as there are held-out images, whose distance stands beside: the
  # Fréchet distance depends on the number. A latent keeps its place in the
  # distribution under every bound, so that the columns can be compared.
  num = min(len(x.images) for x in subject.batches.values())
  held_out = Batch(subject.batches["test"].images[:num], None)
  drawn = {b: subject.sample(num, truncation=b) for b in BOUNDS}
  names = {b: f"{b:g}" if b else NO_BOUND for b in BOUNDS}
  batches = {names[b]: x for b, x in drawn.items()} | {HELD_OUT: held_out}
  numbers = {k: _measure(subject, x.images) for k, x in batches.items()}
  if subject.is_points:
    _draw_points(path, batches, numbers)
  else:
    shown = [x.images[:COLUMNS] for x in batches.values()]
    columns = min(COLUMNS, num)
    left = [_title(name) for name in batches]
    right = [_words(values) for values in numbers.values()]
    title = "The same latents within bounds of |z|"
    block = pages.Block(title, np.concatenate(shown), columns, left, right)
    plots.save(path, pages.blocks([block])[0])
  ends = [numbers[names[b]]["mean_distance"] for b in BOUNDS]
  text = "the same latents within bounds of |z|; mean distance of a pair "
  text += f"{ends[-1]:.3g} without a bound, {ends[0]:.3g} at {BOUNDS[0]}"
  return text, numbers


def _measure(subject: Subject, images: np.ndarray) -> dict[str, float]:
  places = subject.coordinates(images)
  numbers = {"mean_distance": mean_distance(places[:MAX_NUM])}
  if subject.space != "pixels":  # Too many dimensions for a covariance.
    record = metrics.get("frechet")(subject.placed["train"], places)
    numbers["frechet"] = record.values["frechet"]
  return numbers


def _title(name: str) -> str:
  return name if name in (NO_BOUND, HELD_OUT) else f"|z| ≤ {name}"


def _words(values: dict[str, float]) -> str:
  words = [f"pair distance {values['mean_distance']:.3g}"]
  if "frechet" in values:
    words.append(f"Fréchet {values['frechet']:.3g}")
  return ", ".join(reversed(words))


def _draw_points(path: pathlib.Path, batches, numbers) -> None:
  page = plots.figure(3 * 430, 2 * 460)
  for i, (name, batch) in enumerate(batches.items()):
    axes = page.add_subplot(2, 3, i + 1)
    plots.style(axes, f"{_title(name)}\n{_words(numbers[name])}")
    colour = COLOURS["test" if name == HELD_OUT else "fake"]
    pages.scatter(axes, batch.images[: plots.MAX_POINTS], colour)
  page.tight_layout()
  plots.save(path, page)
