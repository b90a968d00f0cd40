"""How much of each frequency there is in images: where upsampling shows.

The azimuthally averaged power spectrum, as in Durall et al. 2020, section 3.1,
and Dzanic et al. 2020, section 2: generators with transposed convolutions miss
or overdo the high frequencies.
"""

import pathlib

import numpy as np

from ganjax import errors
from ganjax.runs import plots
from ganjax.tools.analyze import PICTURES, Drawn, Numbers, pages
from ganjax.tools.analyze.subject import COLOURS, NAMES, Subject

MIN_SIDE = 8  # pixels: fewer have no octaves to speak of
BAND = (10, 90)  # percentiles over images


def spectrum(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns the power of images at each distance from frequency 0.

  The power is that of the mean of an image's channels, less the mean of all
  its pixels. The transform takes an image as periodic, so what differs between
  opposite edges counts as high frequencies; of all kinds of images alike.

  Args:
    images: uint8 `[N, H, W, C]`.

  Returns:
    frequencies: float64 `[F]`, cycles a pixel; up to 1/2 along the rows and
      columns and sqrt(1/2) in the corners, where checkerboards are.
    power: float64 `[N, F]`, |DFT|^2 / (H W) of pixels in [0, 1], averaged over
      the ring of each frequency: for white noise its variance, everywhere.
  """
  num, height, width, _ = images.shape
  grey = np.asarray(images, np.float64).mean(axis=-1) / 255
  grey -= grey.mean(axis=(1, 2), keepdims=True)
  power = np.abs(np.fft.fft2(grey)) ** 2 / (height * width)
  radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
  side = min(height, width)
  ring = np.rint(radius * side).astype(int).ravel()
  count = np.bincount(ring)
  # One count over all rings of all images: ring r of image i is number
  # i * len(count) + r. A loop over images would take most of the time.
  places = np.arange(num)[:, None] * len(count) + ring
  sums = np.bincount(places.ravel(), power.ravel(), num * len(count))
  sums = sums.reshape(num, len(count))
  kept = np.flatnonzero(count)[1:]
  return kept / side, sums[:, kept] / count[kept]


def band_power(
  frequencies: np.ndarray, power: np.ndarray, low: float, high: float
) -> float:
  """Returns the mean power of images over `low < frequency <= high`.

  Args:
    frequencies: `[F]`, of `spectrum`.
    power: `[N, F]`.
    low: in cycles a pixel.
    high: the same.
  """
  inside = (frequencies > low) & (frequencies <= high)
  return float(power[:, inside].mean())


def compare(kinds: dict[str, tuple[np.ndarray, np.ndarray]]) -> Numbers:
  """Returns the power of samples and held-out images over training images'.

  Args:
    kinds: kind -> `spectrum` of its images.

  Returns:
    For "fake" and "test" each: `highest_octave`, from 1/4 to 1/2 cycles a
    pixel, `corners` beyond that, and `rest` below it.
  """
  bands = {
    "rest": (0, 0.25),
    "highest_octave": (0.25, 0.5),
    "corners": (0.5, 1),
  }
  numbers: Numbers = {}
  for kind in ("fake", "test"):
    numbers[kind] = {}
    for name, band in bands.items():
      real = band_power(*kinds["train"], *band)
      if not real:
        raise errors.UserError("the training images hold only one colour each")
      numbers[kind][name] = band_power(*kinds[kind], *band) / real
  return numbers


@PICTURES.register(name="spectrum")
def draw(subject: Subject, path: pathlib.Path) -> Drawn:
  """Draws the mean spectra, and their bands over the images."""
  subject.need_images()
  if min(subject.train.images.shape[1:3]) < MIN_SIDE:
    raise errors.UserError(f"needs images of {MIN_SIDE} pixels or more a side")
  kinds = {k: spectrum(x.images) for k, x in subject.batches.items()}
  numbers = compare(kinds)
  page = plots.figure(860, 560)
  axes = page.add_subplot()
  plots.style(axes, "Power spectrum: means, and where 80 % of the images are")
  for kind, (frequencies, power) in kinds.items():
    style = {"color": COLOURS[kind], "lw": 1.5, "label": NAMES[kind]}
    dashes = (0, (4, 2)) if kind == "test" else "-"
    axes.semilogy(frequencies, power.mean(axis=0), ls=dashes, **style)
    if kind != "test":
      low, high = np.percentile(power, BAND, axis=0)
      axes.fill_between(
        frequencies, low, high, color=COLOURS[kind], alpha=0.14, lw=0
      )
  axes.axvline(0.5, color=plots.GREY, lw=0.8, ls=":")
  axes.text(
    0.507,
    0.97,
    "corners",
    fontsize=7,
    color=plots.GREY,
    va="top",
    transform=axes.get_xaxis_transform(),
  )
  axes.set_xlabel("Frequency, cycles a pixel", fontsize=8)
  axes.set_ylabel("Power of pixels in [0, 1]", fontsize=8)
  pages.legend(axes, loc="lower left")
  page.tight_layout()
  plots.save(path, page, flat=True)
  of_samples = numbers["fake"]["highest_octave"]
  of_held_out = numbers["test"]["highest_octave"]
  text = (
    "power at each frequency; in the highest octave samples have "
    f"{of_samples:.2f} of the training images' (held-out: {of_held_out:.2f})"
  )
  return text, numbers
