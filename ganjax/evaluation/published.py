"""Published statistics of a dataset instead of the dataset itself."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from ganjax import data, errors
from ganjax.data import cache
from ganjax.evaluation import metrics
from ganjax.evaluation.evaluator import Evaluator, Spec
from ganjax.evaluation.metrics import frechet


class Published(Evaluator):
  """Compares features with the `mu` and `sigma` of an .npz file.

  Heusel et al. 2017 and pytorch-fid publish such files. They hold a mean and a
  covariance and no images, so that only the Fréchet distance can be computed.
  The statistics belong to one extractor and one resize mode, which the file
  does not name.
  """

  def __init__(self, path: pathlib.Path, extractor: Mapping[str, Any] | None):
    """Reads the file.

    Args:
      path: of the .npz.
      extractor: the name and the options of the extractor in whose features
        the statistics are.

    Raises:
      UserError: the file holds no such statistics, or no extractor is given.
    """
    if not extractor:
      raise errors.UserError(
        f"{path} holds statistics of features: say of which, such as "
        "--extractor inception:weights=inception.npz"
      )
    self._path = path
    self._moments = frechet.Moments.load(path)
    nothing = data.Arrays(np.zeros((0, 1, 1, 3), np.uint8))
    super().__init__(path.stem, nothing, nothing, extractor=extractor)

  @property
  def digests(self) -> list[str]:
    """The fingerprint of the statistics."""
    moments = self._moments
    return [cache.digest_of({"mu": moments.mean, "sigma": moments.cov})]

  def protocol(self, on: str) -> dict[str, Any]:
    """Returns in what is measured, and against which statistics."""
    return {**super().protocol(on), "against": self.digests[0]}

  def describe(self) -> tuple[str, str]:
    """Returns what stands on the table's last line."""
    return f"against the statistics of {self._path}", ""

  def _check(self, images: np.ndarray) -> None:
    if images.ndim != 4 or images.dtype != np.uint8 or not len(images):
      raise errors.UserError(
        f"samples {images.dtype} {list(images.shape)} must be uint8 images"
      )

  def _make(
    self,
    name: str,
    spec: Spec,
    fake_labels: np.ndarray | None = None,
  ) -> metrics.Metric:
    if name != "frechet":
      raise errors.UserError(
        f"{name} cannot be computed from {self._path}, which holds a mean and "
        "a covariance: use --metrics frechet"
      )
    return super()._make(name, spec, fake_labels)

  def _form(self, split: str, on: str) -> frechet.Moments:
    del split, on
    return self._moments
