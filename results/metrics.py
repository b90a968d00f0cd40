"""Parzen windows on MNIST, and 50,000 against 50,000: time and memory.

    python results/metrics.py parzen
    python results/metrics.py prdc

`parzen` scores real training images as if they were samples; the third column
of its output is what `results/metrics.md` compares with.
"""

import argparse
import resource
import time

import numpy as np

from ganjax.data import tfds
from ganjax.evaluation import metrics


def parzen() -> None:
  """Prints the log-likelihoods of real images, as kernels, on MNIST."""
  splits = [
    np.asarray(tfds.load(split, "mnist").images)
    for split in ("train[:50000]", "train[50000:]", "test")
  ]
  train, validation, test = splits
  metric = metrics.get("parzen", held_out=test, validation=validation)
  chosen = np.random.RandomState(0).permutation(len(train))
  mean = np.round(train.mean(axis=0, keepdims=True)).astype(np.uint8)
  for name, samples in {
    "10,000 training images": train[chosen[:10_000]],
    "1,000 training images": train[chosen[:1_000]],
    "the mean image": mean,
  }.items():
    start = time.perf_counter()
    record = metric(train, samples)
    v, seconds = record.values, time.perf_counter() - start
    print(
      f"{name}: {v['parzen']:.1f} +- {v['parzen_error']:.1f}, sigma "
      f"{v['sigma']:.4f}, {seconds:.1f} s {record.flags}"
    )


def prdc() -> None:
  """Prints time and memory of 50,000 x 50,000 x 64, and of other metrics."""
  rng = np.random.RandomState(0)
  real, fake = (
    np.maximum(rng.normal(size=(50_000, 64)), 0).astype(np.float32)
    for _ in range(2)
  )
  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
  for name in ("frechet", "kernel", "mind", "two_sample", "prdc"):
    metric, start = metrics.get(name), time.perf_counter()
    record = metric(real, fake)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    seconds = time.perf_counter() - start
    print(
      f"{name}: {seconds:.1f} s, process {peak:.2f} GiB ({before:.2f} before), "
      + ", ".join(f"{k} {v:.3g}" for k, v in record.values.items())
    )


if __name__ == "__main__":
  parser = argparse.ArgumentParser()
  parser.add_argument("what", choices=("parzen", "prdc"))
  {"parzen": parzen, "prdc": prdc}[parser.parse_args().what]()
