"""How alike the samples look, beside how alike the reals do."""

import numpy as np

from ganjax import errors
from ganjax.evaluation import metrics
from ganjax.evaluation.metrics import pairwise_distance, ssim

BLOCK = 10**6  # Pixels at a time.


# No value is better than the other: fakes should be as alike as the reals, and
# noise is less alike.
@metrics.register(
  on="images",
  formats={"ms_ssim": ".3f", "ms_ssim_real": ".3f"},
)
def diversity(num_pairs: int = 1000) -> metrics.Metric:
  """Returns the mean MS-SSIM of random pairs, of Odena et al. 2017.

  Their section 4.2 draws 100 pairs within each class; here pairs are drawn
  from all images. Wang et al. 2003 compare at 5 scales with a window of 11
  pixels and a deviation of 1.5. Small images are compared at as many of the
  finest scales as hold the window, and at two or more: for that the window and
  its deviation are made smaller in images of fewer than 22 pixels a side.

  Args:
    num_pairs: how many pairs are drawn among the fakes, and as many among the
      reals.

  Returns:
    `metric(real [N, H, W, C], fake [M, H, W, C])` with the values `ms_ssim`,
    of the fakes: 1 if all of them are the same, then flagged as "constant";
    and `ms_ssim_real`. Fakes more alike than the reals are less diverse. The
    protocol has the number of `scales` and the `window` in pixels.

  Raises:
    UserError: `num_pairs` is below 1; when called with fewer than two images,
      sides of fewer than 6 pixels, or non-finite images.
  """
  if num_pairs < 1:
    raise errors.UserError(
      f"diversity: num_pairs is {num_pairs}, it must be at least 1"
    )

  def metric(real: np.ndarray, fake: np.ndarray) -> metrics.Record:
    real, fake = metrics.check_images("diversity", real, fake, min_samples=2)
    window = ssim.window_of("diversity", real.shape, scales=2)
    scales = ssim.scales_of(real.shape, window)

    def mean(images: np.ndarray) -> float:
      first, second = pairwise_distance.pairs(len(images), num_pairs)
      step = max(1, BLOCK // images[0].size)
      total = 0.0
      for i in range(0, num_pairs, step):
        x, peak = ssim.planes(images[first[i : i + step]])
        y, _ = ssim.planes(images[second[i : i + step]])
        total += ssim.multi_scale(x, y, peak, window, scales).sum()
      return float(total / num_pairs)

    constant = all(np.array_equal(image, fake[0]) for image in fake)
    return metrics.Record(
      {"ms_ssim": mean(fake), "ms_ssim_real": mean(real)},
      {
        "num_real": len(real),
        "num_fake": len(fake),
        "num_pairs": num_pairs,
        "scales": scales,
        "window": window,
      },
      ("constant",) if constant else (),
    )

  return metric
