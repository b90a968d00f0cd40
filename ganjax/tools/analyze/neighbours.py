"""Samples beside the training images that are nearest to them.

Figure 2 of Goodfellow et al. 2014 shows in this way that G does not repeat
training images. Here it is measured, too: the distance of samples to the
training set is compared with that of held-out images.
"""

import pathlib
from collections.abc import Mapping

import numpy as np

from ganjax.data import cache
from ganjax.runs import plots
from ganjax.tools.analyze import PICTURES, Drawn, pages
from ganjax.tools.analyze.subject import COLOURS, NAMES, Subject, flat

ROWS = 4
COLUMNS = 5  # The last column is the one whose neighbours are shown.
MAX_NUM = 500  # of either kind whose neighbours are searched
BLOCK = 1024  # training images compared at a time
BESIDE = 460  # pixels, of the histograms
UNITS = {
  "pixels": "Euclidean distance of pixels in [0, 1]",
  "features": "Euclidean distance of features",
}
TITLES = {"pixels": "Nearest\nin pixels", "features": "Nearest\nin features"}


def nearest(
  queries: np.ndarray, points: np.ndarray, block: int = BLOCK
) -> tuple[np.ndarray, np.ndarray]:
  """Finds each query's nearest point by comparing it with all of them.

  Args:
    queries: float64 `[n, d]`.
    points: `[N, d]`, of any type; uint8 are taken as multiples of 1/255.
    block: how many points to compare at a time.

  Returns:
    Euclidean distances `[n]`, 0 for a copy, and the indices `[n]` of the
    nearest points; the first of equally near ones.
  """
  best = np.full(len(queries), np.inf)
  index = np.zeros(len(queries), int)
  starts = range(0, len(points), block)
  for start in cache.track(starts, len(starts), "searching neighbours"):
    part = flat(points[start : start + block])
    # |q - p|^2 = |q|^2 - 2 q p + |p|^2, of which |q|^2 is the same for all
    # points, so that it does not say which is nearest.
    squares = np.sum(part**2, axis=1) - 2 * queries @ part.T
    found = squares.argmin(axis=1)
    value = squares[np.arange(len(queries)), found]
    nearer = value < best
    best[nearer] = value[nearer]
    index[nearer] = start + found[nearer]
  # Of differences, not of squares, whose rounding hides that a copy is one.
  away = queries - flat(points[index])
  return np.sqrt(np.sum(away**2, axis=1)), index


def compare(fake: np.ndarray, held_out: np.ndarray) -> dict[str, float]:
  """Compares distances to the training set; a copying generator is seen.

  Args:
    fake: `[n]`, of samples to their nearest training images.
    held_out: `[m]`, of held-out images to theirs.

  Returns:
    The medians, their `ratio`, and `suspicious`: the share of samples nearer
    than all but 1 % of the held-out images, so about 0.01 for a generator as
    good as the data. A ratio far below 1 tells of copies; in pixels also of
    blurred samples, since those are near to everything.
  """
  of_samples = float(np.median(fake))
  of_held_out = float(np.median(held_out))
  return {
    "samples": of_samples,
    "held_out": of_held_out,
    "ratio": of_samples / of_held_out if of_held_out else float("inf"),
    "suspicious": float(np.mean(fake < np.quantile(held_out, 0.01))),
  }


@PICTURES.register(name="neighbours")
def draw(subject: Subject, path: pathlib.Path) -> Drawn:
  """Draws samples, their neighbours in pixels and features, and distances."""
  subject.need_images()
  train = subject.train.images
  images = {k: subject.batches[k].images[:MAX_NUM] for k in ("fake", "test")}
  spaces = {"pixels": train}
  if subject.space == "features":
    spaces["features"] = subject.coordinates(train)
  shown = images["fake"][: ROWS * COLUMNS]
  last_column = np.arange(COLUMNS - 1, len(shown), COLUMNS)
  parts = [pages.Block("Samples", shown, COLUMNS)]
  distances = {}
  numbers = {}
  for space, points in spaces.items():
    place = flat if space == "pixels" else subject.coordinates
    to_fake, of_fake = nearest(place(images["fake"]), points)
    to_test, _ = nearest(place(images["test"]), points)
    distances[space] = {"fake": to_fake, "test": to_test}
    numbers[space] = compare(to_fake, to_test)
    beside = np.asarray(train[of_fake[last_column]])
    parts.append(pages.Block(TITLES[space], beside, 1))
  page, width = pages.blocks(parts, BESIDE)
  _histograms(page, width, distances)
  plots.save(path, page)
  ratios = [f"{x['ratio']:.2f} in {k}" for k, x in numbers.items()]
  text = (
    "nearest training images; distance / that of held-out images "
    + ", ".join(ratios)
  )
  return text, numbers


def _histograms(
  page, left: int, distances: Mapping[str, Mapping[str, np.ndarray]]
) -> None:
  """Draws the distances in each space at the right of a page, stacked."""
  height = page.get_size_inches()[1] * plots.DPI / len(distances)
  for i, (space, found) in enumerate(distances.items()):
    top = i * height + 34
    axes = pages.axes_at(page, left + 40, top, BESIDE - 60, height - 84)
    plots.style(axes, f"To the nearest training image, in {space}")
    bins = np.histogram_bin_edges(np.concatenate(list(found.values())), 25)
    for kind, distance in found.items():
      axes.hist(
        distance,
        bins,
        density=True,
        histtype="stepfilled",
        ls="--" if kind == "test" else "-",
        lw=1.4,
        facecolor=COLOURS[kind] + "22",
        edgecolor=COLOURS[kind],
        label=NAMES[kind],
      )
    axes.set(yticks=[])
    axes.set_xlim(left=0)
    axes.set_xlabel(UNITS[space], fontsize=7)
    pages.legend(axes, loc="best")
