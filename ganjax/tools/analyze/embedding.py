"""Samples among the data in two dimensions, and their shares by class."""

import pathlib

import numpy as np

from ganjax.runs import plots
from ganjax.tools.analyze import PICTURES, Drawn, Numbers, pages
from ganjax.tools.analyze.subject import COLOURS, NAMES, Subject

KINDS = ("train", "fake")
MAX_NEIGHBOURED = 500  # of either kind; the time of t-SNE grows faster


def principal(real: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
  """Returns the plane in which real coordinates vary most.

  Args:
    real: float64 `[N, d]`, d of 2 or more.

  Returns:
    mean `[d]`, axes `[d, 2]`, orthonormal, the component of each axis that is
    largest in magnitude being positive; and the share of the variance that
    lies in the plane, 0 if there is none at all.
  """
  mean = real.mean(axis=0)
  _, singular, axes = np.linalg.svd(real - mean, full_matrices=False)
  axes, variances = axes[:2].T, singular**2
  # A singular vector has no sign of its own: without one, two runs would show
  # mirrored pictures of the same data.
  largest = np.abs(axes).argmax(axis=0)
  axes = axes * np.sign(axes[largest, np.arange(axes.shape[1])])
  share = variances[:2].sum() / max(variances.sum(), np.finfo(float).tiny)
  return mean, axes, float(share)


def neighboured(parts: list[np.ndarray], seed: int) -> list[np.ndarray]:
  """Returns t-SNE's place in the plane of each row (van der Maaten 2008).

  Args:
    parts: float64 `[n_i, d]` each, placed together.
    seed: of its optimisation.
  """
  from sklearn import manifold

  whole = np.concatenate(parts)
  tsne = manifold.TSNE(
    perplexity=min(30, (len(whole) - 1) / 3),
    init="pca",
    random_state=seed,
  )
  cuts = np.cumsum([len(part) for part in parts])[:-1]
  return np.split(tsne.fit_transform(whole), cuts)


def shares(logits: np.ndarray) -> np.ndarray:
  """Returns the share of each class `[K]` among logits `[N, K]`."""
  classes = np.asarray(logits).argmax(axis=1)
  return np.bincount(classes, minlength=np.shape(logits)[1]) / len(classes)


@PICTURES.register(name="embedding")
def draw(subject: Subject, path: pathlib.Path) -> Drawn:
  """Draws the plane of most variance, t-SNE's, and the shares by class."""
  panels, text, numbers = _panels(subject)
  logits = None
  if not subject.why_no_features:
    logits = {k: subject.seen[k].logits for k in KINDS}
  has_classes = logits is not None and logits["fake"] is not None
  num_panels = len(panels) + has_classes
  page = plots.figure(470 * num_panels, 520)
  for i, (title, points) in enumerate(panels.items()):
    axes = page.add_subplot(1, num_panels, i + 1)
    plots.style(axes, title)
    _draw_panel(axes, subject, points)
  if logits is not None and has_classes:
    both = {k: shares(x) for k, x in logits.items()}
    differ = float(np.abs(both["train"] - both["fake"]).sum() / 2)
    numbers["shares"] = {k: [float(s) for s in x] for k, x in both.items()}
    numbers["total_variation"] = differ
    _bars(page.add_subplot(1, num_panels, num_panels), both)
    text += (
      f"; shares of the classes differ by {100 * differ:.1f} % of the samples"
    )
  page.tight_layout()
  plots.save(path, page)
  return text, numbers


def _panels(
  subject: Subject,
) -> tuple[dict[str, dict[str, np.ndarray]], str, Numbers]:
  """Places samples and data in two dimensions, in each way that there is.

  Returns:
    title -> kind -> `[n, 2]`, what is seen, and the numbers behind it.
  """
  places = {k: subject.placed[k] for k in KINDS}
  if subject.is_points:
    return {"The plane": places}, "samples and data in the plane", {}
  mean, axes, share = principal(places["train"])
  few = [x[:MAX_NEIGHBOURED] for x in places.values()]
  neighbours = neighboured(few, subject.seed)
  where = subject.space
  panels = {
    f"PCA of {where}: {100 * share:.0f} % of the variance": {
      k: (x - mean) @ axes for k, x in places.items()
    },
    f"t-SNE of {where}": dict(zip(places, neighbours, strict=True)),
  }
  text = f"samples and data in two dimensions of {where}"
  return panels, text, {"variance_in_plane": share}


def _draw_panel(axes, subject: Subject, points: dict[str, np.ndarray]) -> None:
  """Draws samples and data, with the classes of the data if it has any."""
  for kind, x in reversed(points.items()):  # The data on top, seen amid all.
    _scatter(axes, x, kind)
  labels = subject.batches["train"].labels
  if labels is not None:
    shift = 9 if subject.is_points else 0  # Dense modes would be hidden.
    _mark(axes, points["train"], labels[: len(points["train"])], shift)
  if subject.is_points:
    axes.locator_params(nbins=5)
  else:  # Neither the units nor the directions mean anything.
    axes.set(xticks=[], yticks=[])
  pages.legend(axes, loc="best", markerscale=3)


def _scatter(axes, points: np.ndarray, kind: str) -> None:
  axes.scatter(
    *points[: plots.MAX_POINTS].T,
    s=4,
    color=COLOURS[kind],
    alpha=0.4,
    linewidths=0,
    label=NAMES[kind],
  )


def _mark(axes, points: np.ndarray, labels: np.ndarray, shift: int) -> None:
  """Writes each class at the median of its real points."""
  for label in np.unique(labels):
    note = axes.annotate(
      str(label),
      np.median(points[labels == label], axis=0),
      (shift, shift),
      textcoords="offset points",
      fontsize=7,
      ha="center",
      va="center",
    )
    note.set_bbox({"facecolor": "white", "alpha": 0.75, "pad": 1, "lw": 0})


def _bars(axes, both: dict[str, np.ndarray]) -> None:
  """Draws the share of each class, of data beside samples."""
  plots.style(axes, "Share by the classifier's class")
  for i, (kind, share) in enumerate(both.items()):
    at = np.arange(len(share)) + 0.4 * i - 0.2
    axes.bar(at, 100 * share, 0.4, color=COLOURS[kind], label=NAMES[kind])
  axes.locator_params(axis="x", integer=True)
  if len(both["fake"]) <= 12:
    axes.set_xticks(range(len(both["fake"])))
  axes.set_xlabel("Class", fontsize=8)
  axes.set_ylabel("%", fontsize=8)
  axes.set_ylim(0, 118 * max(share.max() for share in both.values()))
  pages.legend(axes, loc="upper right", ncols=2)
