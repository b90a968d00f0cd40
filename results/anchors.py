"""How each metric moves on CIFAR-10: `python results/anchors.py`.

Reals are the first 25,000 training images, on which the embedded classifier is
trained, too. Everything else is made of images that it has not seen. Writes
the table of `results/anchors.md`; what stands below the mark there is kept.
"""

import pathlib
import time

import numpy as np
from scipy import ndimage

from ganjax import data
from ganjax.data import tfds
from ganjax.evaluation import evaluator as evaluate
from ganjax.runs import scoring as sources
from ganjax.runs.environment import environment

PAGE = pathlib.Path(__file__).parent / "anchors.md"
MARK = "<!-- By hand from here on. -->"
NUM = 10_000

SPECS = {
  "frechet": {},
  "kernel": {},
  "prdc": {},
  "mind": {},
  "inception_score": {},
  "classes": {},
  "pairwise_distance": {},
  "two_sample": {},
  "diversity": {},
}
COLUMNS = {
  "frechet": "Fréchet",
  "kernel_mean": "kernel",
  "precision": "precision",
  "recall": "recall",
  "density": "density",
  "coverage": "coverage",
  "mind": "MIND",
  "inception_score_mean": "class score",
  "classes_covered": "classes",
  "class_kl": "class KL",
  "pairwise_ratio": "pairwise",
  "ms_ssim": "MS-SSIM",
  "two_sample_accuracy": "two-sample",
}


def sets(unseen: data.Arrays, test: data.Arrays) -> dict[str, np.ndarray]:
  """Returns name -> images, most of them 10,000."""
  images, labels = np.asarray(unseen.images), np.asarray(unseen.labels)
  plain = images[:NUM]
  blurred = ndimage.gaussian_filter(plain, (0, 1, 1, 0))
  black = plain.copy()
  black[:, 8:24, 8:24] = 0
  noisy = plain + np.random.RandomState(0).normal(0, 16, plain.shape)
  return {
    "other training images": plain,
    "1,000 test images": np.asarray(test.images[:1000]),
    "noise of deviation 16 added": noisy.clip(0, 255).astype(np.uint8),
    "blur of 1 pixel": blurred,
    "a black square of 16 pixels": black,
    "half the classes": images[labels < 5][:NUM],
    "one class (2,500)": images[labels == 3][:2500],
    "1,000 images, 10 times each": np.repeat(images[:1000], 10, axis=0),
    "uniform noise": sources.noise(plain),
    "one image": np.repeat(images[:1], NUM, axis=0),
  }


def main() -> None:
  """Scores all sets and writes the page."""
  train, test = tfds.load("train"), tfds.load("test")
  images, labels = np.asarray(train.images), np.asarray(train.labels)
  parts = [
    data.Arrays(images[half], labels[half], train.num_classes)
    for half in (slice(25_000), slice(25_000, None))
  ]
  evaluator = evaluate.Evaluator("cifar10", parts[0], test)
  evaluator.prepare(SPECS)
  rows, start = [], time.perf_counter()
  for name, fakes in sets(parts[1], test).items():
    values, flags = {}, []
    for metric, record in evaluator.compare(SPECS, fakes).items():
      values |= record.values
      flags += [f"{metric}: {flag}" for flag in record.flags]
    cells = [f"{values[column]:.3g}" for column in COLUMNS]
    rows.append(f"| {name} | " + " | ".join(cells) + " |")
    print(rows[-1], *flags, sep="\n  ", flush=True)
  seconds = time.perf_counter() - start
  facts, net = environment(), evaluator.extractor
  versions = ", ".join(f"{k} {v}" for k, v in facts["versions"].items())
  text = f"""# Anchors of the metrics on CIFAR-10

`python results/anchors.py`: {seconds / 60:.1f} minutes after the classifier;
{versions}.

Reals are the first 25,000 training images; the extractor is {net.name}
({net.digest}), trained on them, with a test accuracy of
{100 * net.accuracy:.1f} %. Rows have 10,000 images of the other 25,000, but
where their name says otherwise.

| | {" | ".join(COLUMNS.values())} |
|---|{"---|" * len(COLUMNS)}
""" + "\n".join(rows)
  below = PAGE.read_text().partition(MARK)[2] if PAGE.exists() else "\n"
  PAGE.write_text(f"{text}\n\n{MARK}{below}")


if __name__ == "__main__":
  main()
