"""Structural similarity of pairs of images, at one scale and at several."""

import numpy as np

from ganjax import errors

# Wang et al. 2004, section III.C, in pixels.
WINDOW = 11
SIGMA = 1.5
# Wang et al. 2003, section 4: from the weight of the finest scale to that of
# the coarsest.
WEIGHTS = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])


def planes(images: np.ndarray) -> tuple[np.ndarray, float]:
  """Returns images `[N, H, W, C]` as float64 `[N, C, H, W]`, and their peak.

  The peak is the largest value that a pixel can take: 255, of floats 1.
  """
  peak = 255.0 if images.dtype == np.uint8 else 1.0
  return np.moveaxis(images, -1, 1).astype(np.float64), peak


def window_of(metric: str, shape: tuple[int, ...], scales: int = 1) -> int:
  """Returns the largest window, up to 11 pixels, that fits so many scales.

  It is odd, and its deviation is always 1.5 / 11 of it.

  Args:
    metric: its name, for the error.
    shape: of the images, `[..., H, W, C]`.
    scales: each has half as many pixels to a side as the one before.

  Raises:
    UserError: fewer than 3 pixels are left.
  """
  least = min(shape[-3:-1]) // 2 ** (scales - 1)
  if least < 3:
    raise errors.UserError(
      f"{metric}: images of {shape[-3]}x{shape[-2]} pixels are too small, both "
      f"sides need at least {3 * 2 ** (scales - 1)}"
    )
  return min(WINDOW, least - 1 + least % 2)


def scales_of(shape: tuple[int, ...], window: int) -> int:
  """Returns at how many scales, at most 5, images hold a `window`."""
  halvings = int(np.log2(min(shape[-3:-1]) / window))
  return min(1 + halvings, len(WEIGHTS))


def similarity(
  x: np.ndarray, y: np.ndarray, peak: float, window: int
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the mean SSIM, equation 13, and the mean of its second factor.

  Wang et al. 2004, with K1 = .01, K2 = .03, weighted (co)variances and only
  windows that lie within the image. The second factor, that of contrast and
  structure, is the one without the means.

  Args:
    x: float64 `[N, C, H, W]`.
    y: as `x`.
    peak: the largest value that a pixel can take.
    window: pixels to a side, odd.

  Returns:
    Two float64 `[N, C]`, each in [-1, 1].
  """
  rows = _blur(x.shape[2], window)
  columns = _blur(x.shape[3], window)

  def mean(z: np.ndarray) -> np.ndarray:
    return rows @ z @ columns.T

  c1 = (0.01 * peak) ** 2
  c2 = (0.03 * peak) ** 2
  mean_x = mean(x)
  mean_y = mean(y)
  variances = mean(x * x) - mean_x**2 + (mean(y * y) - mean_y**2)
  covariance = mean(x * y) - mean_x * mean_y
  structure = (2 * covariance + c2) / (variances + c2)
  luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
  axes = (2, 3)
  return (luminance * structure).mean(axes), structure.mean(axes)


def multi_scale(
  x: np.ndarray, y: np.ndarray, peak: float, window: int, scales: int
) -> np.ndarray:
  """Returns the MS-SSIM of Wang et al. 2003, equation 7.

  Each scale is the one before, averaged over 2x2 pixels. Negative factors,
  which have no power, count as 0. Fewer than 5 scales have the weights of the
  finest, enlarged to the sum of all five. Channels count alike.

  Args:
    x: float64 `[N, C, H, W]`.
    y: as `x`.
    peak: the largest value that a pixel can take.
    window: pixels to a side, odd.
    scales: how many, 1 to 5.

  Returns:
    float64 `[N]` in [0, 1].
  """
  # The sum is 1.0001 as published, which 5 scales have to keep.
  weights = WEIGHTS[:scales] * (WEIGHTS.sum() / WEIGHTS[:scales].sum())
  product = np.ones(x.shape[:2])
  for scale, weight in enumerate(weights):
    if scale:
      x = _half(x)
      y = _half(y)
    ssim, structure = similarity(x, y, peak, window)
    # The luminance is compared at the coarsest scale only.
    factor = ssim if scale == scales - 1 else structure
    product *= np.maximum(factor, 0) ** weight
  return product.mean(axis=1)


def _blur(side: int, window: int) -> np.ndarray:
  """Returns the Gaussian filter as a matrix `[side - window + 1, side]`."""
  offsets = np.arange(window) - window // 2
  kernel = np.exp(-0.5 * (offsets / (SIGMA * window / WINDOW)) ** 2)
  matrix = np.zeros((side - window + 1, side))
  for i, row in enumerate(matrix):
    row[i : i + window] = kernel / kernel.sum()
  return matrix


def _half(x: np.ndarray) -> np.ndarray:
  """Averages 2x2 pixels of `[N, C, H, W]`; an odd last one counts twice."""
  height, width = x.shape[2:]
  pad = [(0, 0), (0, 0), (0, height % 2), (0, width % 2)]
  x = np.pad(x, pad, mode="edge")
  x = x[:, :, ::2] + x[:, :, 1::2]
  return (x[..., ::2] + x[..., 1::2]) / 4
