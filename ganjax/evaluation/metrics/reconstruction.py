"""How near each image is to the one it should be: PSNR, SSIM and MSE."""

import numpy as np

from ganjax import errors
from ganjax.evaluation import metrics
from ganjax.evaluation.metrics import ssim

BLOCK = 10**6  # Pixels at a time.


@metrics.register(
  on="images",
  better={"psnr": "higher", "ssim": "higher", "mse": "lower"},
  needs="reconstruct",
  formats={"psnr": ".1f", "ssim": ".3f"},
)
def reconstruction() -> metrics.Metric:
  """Returns the usual measures of reconstruction, of pairs of images.

  With the mean squared error over an image's pixels and channels, its PSNR is
  `10 log10(peak^2 / error)`; the SSIM is that of Wang et al. 2004: a Gaussian
  window of 11 pixels with deviation 1.5, K1 = .01, K2 = .03, the mean over
  the windows within the image and over its channels. In images of fewer
  pixels to a side, the window is the largest odd one that fits.

  The images are pairs: `fake[i]` is what is left of `real[i]`.

  Returns:
    `metric(real [N, H, W, C], fake [N, H, W, C])` with the means over pairs
    `psnr` in dB, `ssim`, and `mse` in squared steps of the pixels. The PSNR
    of two identical images is infinite, and so is a mean with one of them:
    then a flag says how many there are. The protocol has the `peak` of a
    pixel, 255 or of floats 1, and the `window` in pixels.

  Raises:
    UserError: when called with unequal numbers, sides of fewer than 3 pixels,
      without images, or with non-finite ones.
  """

  def metric(real: np.ndarray, fake: np.ndarray) -> metrics.Record:
    real, fake = metrics.check_images("reconstruction", real, fake)
    if len(real) != len(fake):
      raise errors.UserError(
        f"reconstruction: {len(real)} real and {len(fake)} fake images: every "
        "fake one must have the real one that it is to be compared with"
      )
    window = ssim.window_of("reconstruction", real.shape)
    step = max(1, BLOCK // real[0].size)
    squares = []
    similarities = []
    peak = 1.0
    for start in range(0, len(real), step):
      x, peak = ssim.planes(real[start : start + step])
      y, _ = ssim.planes(fake[start : start + step])
      squares.append(((x - y) ** 2).mean(axis=(1, 2, 3)))
      similarities.append(ssim.similarity(x, y, peak, window)[0].mean(axis=1))
    mse = np.concatenate(squares)
    with np.errstate(divide="ignore"):  # Of identical images it is infinite.
      psnr = 10 * np.log10(peak**2 / mse)
    same = np.count_nonzero(mse == 0)
    return metrics.Record(
      {
        "psnr": float(psnr.mean()),
        "ssim": float(np.concatenate(similarities).mean()),
        "mse": float(mse.mean()),
      },
      {
        "num_real": len(real),
        "num_fake": len(fake),
        "peak": peak,
        "window": window,
      },
      (f"{same} of {len(mse)} pairs identical",) if same else (),
    )

  return metric
