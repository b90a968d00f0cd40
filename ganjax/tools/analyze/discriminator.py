"""What D says of images it was trained on, of others, and of samples."""

import math
import pathlib
from typing import Any

import numpy as np

from ganjax import errors
from ganjax.runs import plots
from ganjax.tools.analyze import PICTURES, Drawn, Numbers, pages
from ganjax.tools.analyze.subject import COLOURS, NAMES, Subject


def compare(train: np.ndarray, test: np.ndarray, fake: np.ndarray) -> Numbers:
  """Returns the means of D's logits, and how much D overfits.

  Args:
    train: `[n]`, of training images.
    test: `[m]`, of held-out images.
    fake: `[k]`, of samples.

  Returns:
    The means, and `overfitting`, r_v of Karras et al. 2020 (ADA), equation 1:
    `(E[train] - E[test]) / (E[train] - E[fake])`. It is 0 where D takes
    held-out images for real, 1 where it takes them for fakes and so knows the
    training images by heart. `overfitting_std` is its standard error from the
    finite samples, to first order; `flags` says where D does not prefer
    training images to samples by more than two standard errors: the ratio then
    says nothing.
  """
  train, test, fake = (np.asarray(x, np.float64) for x in (train, test, fake))
  means = {"train": train.mean(), "test": test.mean(), "fake": fake.mean()}
  # Of each mean: its standard error, squared.
  variances = {
    "train": train.var() / len(train),
    "test": test.var() / len(test),
    "fake": fake.var() / len(fake),
  }
  above = means["train"] - means["fake"]
  ratio = math.nan
  error = math.nan
  if above:
    ratio = float((means["train"] - means["test"]) / above)
    # The delta method: r = (a - b) / (a - c) has the derivatives (1 - r), -1
    # and r by its three means, each over a - c; their errors are independent.
    slopes = {"train": 1 - ratio, "test": 1.0, "fake": ratio}
    squares = sum(variances[k] * slopes[k] ** 2 for k in slopes)
    error = math.sqrt(squares) / abs(above)
  flags = []
  if above <= 2 * math.sqrt(variances["train"] + variances["fake"]):
    flags.append("D does not tell training images from samples")
  return {
    "means": {k: float(v) for k, v in means.items()},
    "overfitting": ratio,
    "overfitting_std": error,
    "flags": flags,
  }


@PICTURES.register(name="discriminator")
def draw(subject: Subject, path: pathlib.Path) -> Drawn:
  """Draws histograms of D's logits."""
  run = subject.run
  logits = {}
  for kind, (images, labels) in subject.batches.items():
    labels = labels if run.sampler.system.conditional else None
    logits[kind] = run.score(images, labels)
    if not np.isfinite(logits[kind]).all():
      raise errors.UserError(f"D's logits of {NAMES[kind]} are not finite")
  numbers = compare(**logits)
  flagged = "; ".join(numbers["flags"])
  ratio = f"{numbers['overfitting']:.2f} ± {numbers['overfitting_std']:.2f}"
  page = plots.figure(860, 520)
  axes = page.add_subplot()
  plots.style(axes, flagged or f"D's logits: overfitting {ratio}")
  bins: Any = np.histogram_bin_edges(np.concatenate(list(logits.values())), 40)
  for kind, values in logits.items():
    look = {"color": COLOURS[kind], "lw": 1.4}
    axes.hist(
      values,
      bins,
      density=True,
      histtype="step",
      ls="--" if kind == "test" else "-",
      label=f"{NAMES[kind]}, mean {values.mean():.3g}",
      **look,
    )
    axes.axvline(values.mean(), ls=":", **look)
  axes.set_xlabel("Logit", fontsize=8)
  axes.set_ylabel("Density", fontsize=8)
  pages.legend(axes, loc="best")
  page.tight_layout()
  plots.save(path, page, flat=True)
  text = f"logits of D on training and held-out images and samples; {flagged}"
  return text if flagged else f"{text}overfitting {ratio}", numbers
