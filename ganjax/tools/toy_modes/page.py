"""The table and the figure of toy_modes."""

import collections
import pathlib
import statistics
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ganjax.data import toy
from ganjax.runs import plots

COLUMNS = 7  # of the figure, in which the grid stands below the ring
SIDE, GAP, LABEL, TITLE = 190, 18, 34, 48  # pixels: of a panel, around it
# Of the whole table, by hand: written anew when its numbers change.
SEEN = """\
**What to see.** On the ring (z of 256 dimensions) a gradient penalty decides.
With R1, R1 + R2 or that of WGAN-GP, all 18 runs cover the eight modes in equal
shares (KL below 0.002). Of the 18 runs of minimax, non-saturating, least
squares, hinge, pairing and average alone four lose at least a mode, and seven
have a KL above 0.2: in the figure, an arc that stays open. Relativism alone
does not help: pairing and average count eight modes, but one of three runs each
is uneven. On the grid (z of 2 dimensions) all runs but one of clipped
Wasserstein cover 24 or 25 modes, so that their number says little; the shares
are as even as those of held-out data with every gradient penalty, and in some
runs without.

What not to see: a ranking within either group. Three seeds, short runs and one
common optimizer do not give one. In trials (6,000 steps, one seed) the
non-saturating game covered the ring evenly, too, with z of 2, 16 or 64
dimensions. Least squares with seed 1 stood still in the middle of the ring for
6,000 steps and is nowhere near a mode at the end.
"""


def spread(values: Sequence[float], digits: int) -> str:
  """Returns `mean ± s.d.` of a sample, or the one value."""
  if not values:
    return "–"
  text = f"{statistics.fmean(values):.{digits}f}"
  if len(values) > 1:
    text += f" ± {statistics.stdev(values):.{digits}f}"
  return text


def columns(runs: Iterable[dict[str, Any]]) -> list[str]:
  """Returns what a row says of the runs of one setting on one dataset.

  Means are over the runs that did not diverge.
  """
  runs = list(runs)
  good = [run for run in runs if "modes" in run]
  counts = [f"{r['modes_covered']:.0f}" if r in good else "–" for r in runs]
  modes = f"({', '.join(counts)})"
  if good:
    mean = statistics.fmean(run["modes_covered"] for run in good)
    modes = f"{mean:.1f} {modes}"
  states = collections.Counter(run["state"] for run in runs)
  return [
    modes,
    spread([run["high_quality"] for run in good], 3),
    spread([run["mode_kl"] for run in good], 3),
    ", ".join(f"{n} {state}" for state, n in states.most_common()),
  ]


def table(document: dict[str, Any], kind: str) -> list[str]:
  """Returns the lines of a dataset's table."""
  runs = [run for run in document["runs"] if run["dataset"] == kind]
  real = document["real"][kind]
  title = f"{kind}: modes of {real['modes']:.0f}, mean (each seed)"
  lines = [
    f"| setting | {title} | high quality | KL of modes | state at the end |",
    "|---|---|---|---|---|",
  ]
  for setting in document["settings"]:
    mine = [run for run in runs if run["setting"] == setting["title"]]
    lines.append(f"| {' | '.join([setting['title'], *columns(mine)])} |")
  counts = f"{real['modes_covered']:.0f}"
  scores = f"{real['high_quality']:.3f} | {real['mode_kl']:.3f}"
  lines.append(f"| *held-out data* | {counts} | {scores} | |")
  return lines


def _fill(words: str) -> str:
  return textwrap.fill(words, 80, break_on_hyphens=False)


def _machine(environment: Mapping[str, Any]) -> str:
  """Returns on what runs ran, in words."""
  versions = environment["versions"]
  names = ("python", "jax", "flax", "optax")
  device = f"{environment['cpu_count']} CPU cores"
  if environment["backend"] != "cpu":
    device = environment["device_kind"]
  return ", ".join([device, *(f"{name} {versions[name]}" for name in names)])


def text(document: dict[str, Any]) -> str:
  """Returns the page of the results."""
  protocol = document["protocol"]
  machines = dict.fromkeys(map(_machine, document["environments"]))
  steps = ", ".join(
    f"{config['num_steps']:,} on the {kind}"
    for kind, config in protocol.items()
  )
  config = next(iter(protocol.values()))
  made = (
    f"Trained by `{document['sweep']}`, drawn by `{document['command']}`: "
    f"seeds {', '.join(map(str, document['seeds']))}, on "
    f"{'; '.join(machines)}."
  )
  how = (
    f"Generator steps: {steps}, batch {config['batch_size']}; all else is in "
    "`experiments/toy_ring.py` and `toy_grid.py`, the same for every setting "
    "but for what the last table says. 10,000 samples of the averaged "
    "generator are scored. A mode is covered if one sample lies within three "
    "standard deviations of it; *high quality* is the share of samples that "
    "lie so near to any mode; the KL divergence is that of the shares of the "
    "modes, in nats, each sample counting for the nearest one. ± is the "
    "standard deviation over seeds. The state is what the run said of itself "
    "at its end. A run that diverged is a dash and in no mean."
  )
  seen = [SEEN] if document["default"] else []
  lines = ["# Which objectives keep all modes of toy data", "", *seen]
  lines += [_fill(made), "", _fill(how), ""]
  for kind in protocol:
    lines += [*table(document, kind), ""]
  lines += ["![samples](toy_modes.png)", "", "The first seed.", ""]
  lines.append(
    "Each run is `python -m ganjax.main --config toy_ring FLAGS "
    "--config.seed=SEED`, or `toy_grid`:"
  )
  lines += ["", "| setting | flags |", "|---|---|"]
  for setting in document["settings"]:
    given = " ".join(setting["flags"])
    lines.append(f"| {setting['title']} | {given and f'`{given}`'} |")
  return "\n".join([*lines, ""])


def draw(
  path: pathlib.Path,
  samples: Mapping[tuple[str, str], np.ndarray],
  document: Mapping[str, Any],
) -> None:
  """Draws the samples of every setting with the first seed.

  Each mode has a grey disc, wider than the data, so that a lost one is seen.

  Args:
    path: of the PNG.
    samples: (dataset, setting) -> float `[N, 2]`; a run that diverged has none.
    document: what `text` writes about.
  """
  settings = [setting["title"] for setting in document["settings"]]
  kinds = list(document["protocol"])
  across = min(COLUMNS, len(settings))
  blocks = -(-len(settings) // across)
  block_height = TITLE + len(kinds) * (SIDE + LABEL)
  width = across * (SIDE + GAP) + GAP
  height = blocks * block_height + TITLE
  page = plots.figure(width, height)
  for run in document["runs"]:
    kind, title = run["dataset"], run["setting"]
    if run["seed"] != document["seeds"][0]:
      continue
    block, column = divmod(settings.index(title), across)
    row = kinds.index(kind)
    x = GAP + column * (SIDE + GAP)
    y = block * block_height + TITLE + row * (SIDE + LABEL) + SIDE
    box = x / width, 1 - y / height, SIDE / width, SIDE / height
    axes = page.add_axes(box)
    if row == 0:
      axes.set_title(title.replace(" + ", "\n+ ", 1), fontsize=8, pad=4)
    std = document["protocol"][kind]["dataset"]["std"]
    _panel(axes, run, samples.get((kind, title)), std)
  for x, colour, words in (
    (GAP / width, plots.BLUE, "near: within 3 standard deviations of a mode"),
    (0.33, plots.ORANGE, "other samples"),
    (0.46, plots.GREY, "discs mark the modes and are wider than the data"),
  ):
    page.text(x, TITLE / 3 / height, words, color=colour, fontsize=8)
  plots.save(path, page, flat=True)


def _panel(axes, run: Mapping[str, Any], points, std: float) -> None:
  """Draws the samples of a run and says how many modes they cover."""
  centres = toy.centres(run["dataset"])
  axes.scatter(*centres.T, s=90, color="#dcdcdc", linewidths=0)
  words, lost = "diverged", True
  if points is not None:
    distances = np.linalg.norm(points[:, None] - centres, axis=-1).min(1)
    near = distances <= 3 * std
    for some, colour in (~near, plots.ORANGE), (near, plots.BLUE):
      axes.scatter(*points[some].T, s=2, color=colour, alpha=0.5, linewidths=0)
    lost = run["modes_covered"] < run["modes"]
    words = f"{run['modes_covered']:.0f} / {run['modes']:.0f}    "
    words += f"{100 * run['high_quality']:.0f} % near"
  axes.set_xlabel(
    words, fontsize=8, labelpad=3, color=plots.ORANGE if lost else "black"
  )
  axes.set(xlim=(-1.1, 1.1), ylim=(-1.1, 1.1), aspect="equal")
  axes.set(xticks=[], yticks=[])
  for spine in axes.spines.values():
    spine.set(linewidth=0.5, color="#bbbbbb")
