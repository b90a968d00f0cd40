"""The same latents within narrower bounds: quality against variety.

Brock et al. 2019, section 3.1: components of z beyond a bound are drawn anew.
"""

import pathlib
from collections.abc import Mapping

import numpy as np
from scipy.spatial import distance

from ganjax.evaluation import metrics
from ganjax.runs import plots
from ganjax.tools.analyze import PICTURES, Drawn, pages
from ganjax.tools.analyze.subject import COLOURS, Batch, Subject

BOUNDS = (0.2, 0.5, 1.0, 2.0, 0.0)  # The last stands for no bound.
NO_BOUND = "no bound"
HELD_OUT = "held-out"
COLUMNS = 12
MAX_NUM = 500  # samples of which all pairs are compared


def mean_distance(places: np.ndarray) -> float:
  """Returns the mean Euclidean distance of all pairs among `[n, d]`."""
  return float(distance.pdist(places).mean())


@PICTURES.register(name="truncation")
def draw(subject: Subject, path: pathlib.Path) -> Drawn:
  """Draws one row a bound, with Fréchet and mean pairwise distance."""
  subject.run.latents(1, subject.seed, BOUNDS[0])  # Raises if they have none.
  # There are as many samples as held-out images, whose distance stands beside:
  # the Fréchet distance depends on the number. A latent keeps its place in the
  # distribution under every bound, so that the columns can be compared.
  num = min(len(batch.images) for batch in subject.batches.values())
  batches = {}
  for bound in BOUNDS:
    name = f"{bound:g}" if bound else NO_BOUND
    batches[name] = subject.sample(num, truncation=bound)
  batches[HELD_OUT] = Batch(subject.batches["test"].images[:num], None)
  numbers = {k: _measure(subject, x.images) for k, x in batches.items()}
  if subject.is_points:
    _draw_points(path, batches, numbers)
  else:
    shown = [batch.images[:COLUMNS] for batch in batches.values()]
    block = pages.Block(
      title="The same latents within bounds of |z|",
      images=np.concatenate(shown),
      columns=min(COLUMNS, num),
      left=[_title(name) for name in batches],
      right=[_words(values) for values in numbers.values()],
    )
    page, _ = pages.blocks([block])
    plots.save(path, page)
  free = numbers[NO_BOUND]["mean_distance"]
  narrow = numbers[f"{BOUNDS[0]:g}"]["mean_distance"]
  text = (
    "the same latents within bounds of |z|; mean distance of a pair "
    f"{free:.3g} without a bound, {narrow:.3g} at {BOUNDS[0]}"
  )
  return text, numbers


def _measure(subject: Subject, images: np.ndarray) -> dict[str, float]:
  """Returns the variety of images, and their distance to the training set."""
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


def _draw_points(
  path: pathlib.Path,
  batches: Mapping[str, Batch],
  numbers: Mapping[str, dict[str, float]],
) -> None:
  """Draws one scatter a bound."""
  page = plots.figure(3 * 430, 2 * 460)
  for i, (name, batch) in enumerate(batches.items()):
    axes = page.add_subplot(2, 3, i + 1)
    plots.style(axes, f"{_title(name)}\n{_words(numbers[name])}")
    colour = COLOURS["test" if name == HELD_OUT else "fake"]
    pages.scatter(axes, batch.images[: plots.MAX_POINTS], colour)
  page.tight_layout()
  plots.save(path, page)
