"""Samples class by class: those asked for, or those a classifier sees."""

import pathlib
from typing import NamedTuple

import numpy as np

from ganjax import errors
from ganjax.runs import plots
from ganjax.tools.analyze import PICTURES, Drawn, Numbers, pages
from ganjax.tools.analyze.subject import Subject

COLUMNS = 12
MAX_ROWS = 20


def arrange(
  classes: np.ndarray, order_by: np.ndarray, num_classes: int, columns: int
) -> list[np.ndarray]:
  """Chooses samples of each class, evenly from the first to the last.

  Args:
    classes: int `[N]`.
    order_by: `[N]`; the highest stands first.
    num_classes: how many rows.
    columns: how many of each class, at most.

  Returns:
    For each class the indices of its samples, fewer if it has fewer.
  """
  rows = []
  for label in range(num_classes):
    members = np.flatnonzero(classes == label)
    members = members[np.argsort(-order_by[members], kind="stable")]
    count = min(columns, len(members))
    rows.append(members[np.linspace(0, len(members) - 1, count).astype(int)])
  return rows


def confidence(logits: np.ndarray) -> np.ndarray:
  """Returns the probability `[N]` of the likeliest class of logits `[N, K]`."""
  # exp(max) / sum exp = 1 / sum exp(logits - max), which cannot overflow.
  logits = np.asarray(logits, np.float64)
  scaled = np.exp(logits - logits.max(axis=1, keepdims=True))
  return 1 / scaled.sum(axis=1)


@PICTURES.register(name="classes")
def draw(subject: Subject, path: pathlib.Path) -> Drawn:
  """Draws one row a class."""
  subject.need_images()
  fake = subject.batches["fake"]
  logits = None
  if not subject.why_no_features:
    logits = subject.seen["fake"].logits
  if fake.labels is not None:
    num_classes = subject.run.sampler.system.num_classes
    page = asked_for(fake.labels, logits, num_classes)
  elif logits is not None:
    page = recognised(np.asarray(logits))
  elif subject.why_no_features:
    raise errors.UserError(subject.why_no_features)
  else:
    name = subject.evaluator.extractor.name
    raise errors.UserError(f"the extractor {name} knows no classes")
  # A class with few samples has white places.
  shape = (len(page.rows), COLUMNS, *fake.images.shape[1:])
  images = np.full(shape, 255, np.uint8)
  for row, members in zip(images, page.rows, strict=True):
    row[: len(members)] = fake.images[members]
  block = pages.Block(
    title=page.title,
    images=images[:MAX_ROWS].reshape(-1, *shape[2:]),
    columns=COLUMNS,
    left=[str(k) for k in range(len(page.rows))][:MAX_ROWS],
    right=page.notes[:MAX_ROWS],
  )
  drawn, _ = pages.blocks([block])
  plots.save(path, drawn)
  return page.text, page.numbers


class Page(NamedTuple):
  """What a picture of classes shows.

  Attributes:
    rows: for each class the indices of its samples.
    notes: for each class what is said of it, or none.
    title: above the rows.
    text: the same in a line.
    numbers: behind them.
  """

  rows: list[np.ndarray]
  notes: list[str]
  title: str
  text: str
  numbers: Numbers


def asked_for(
  labels: np.ndarray, logits: np.ndarray | None, num_classes: int
) -> Page:
  """Returns rows of the classes that a conditional generator was asked for.

  Args:
    labels: int `[N]`, what it was asked for.
    logits: of a classifier, `[N, K]`; None without one.
    num_classes: how many it can be asked for.

  Returns:
    A page, with the share `recognised` of samples that the classifier takes
    for what they should be, and the same by class, if it knows these classes.
  """
  rows = arrange(labels, np.zeros(len(labels)), num_classes, COLUMNS)
  title = "One row for each class asked for"
  text = "the classes asked for"
  if logits is None or np.shape(logits)[1] != num_classes:
    return Page(rows=rows, notes=[], title=title, text=text, numbers={})
  right = np.asarray(logits).argmax(axis=1) == labels
  shares = [float(right[labels == k].mean()) for k in range(num_classes)]
  share = float(right.mean())
  return Page(
    rows=rows,
    notes=[f"{100 * share:.0f} %" for share in shares],
    title=f"{title}\nAt the right: how many the classifier recognises",
    text=f"{text}; the classifier recognises {100 * share:.1f} %",
    numbers={"recognised": share, "by_class": shares},
  )


def recognised(logits: np.ndarray) -> Page:
  """Returns rows of the classes that a classifier sees, the surest first.

  Args:
    logits: `[N, K]`.

  Returns:
    A page, with the share and the mean confidence of each class.
  """
  classes = logits.argmax(axis=1)
  sure = confidence(logits)
  num_classes = logits.shape[1]
  count = np.bincount(classes, minlength=num_classes)
  shares = count / len(classes)
  sums = np.bincount(classes, sure, minlength=num_classes)
  means = sums / np.maximum(count, 1)
  notes = [
    f"{100 * share:.1f} %, {mean:.2f}" if share else "none"
    for share, mean in zip(shares, means, strict=True)
  ]
  return Page(
    rows=arrange(classes, sure, num_classes, COLUMNS),
    notes=notes,
    title="Samples by the class that the classifier sees, the surest first\n"
    "At the right: share of the class, mean confidence",
    text="samples by the classifier's class, of mean confidence "
    f"{sure.mean():.3f}",
    numbers={
      "confidence": float(sure.mean()),
      "shares": shares.tolist(),
      "confidence_by_class": means.tolist(),
    },
  )
