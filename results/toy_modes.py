"""Which objectives keep every mode of toy data: the page of a swept table.

    ganjax sweep toy_modes --jobs 2 --out runs/toy_modes
    python results/toy_modes.py runs/toy_modes --out results

The first command trains the runs of `experiments/tables/toy_modes.py`; this
script trains nothing. It reads their scores and last samples, and writes
`toy_modes.md`, `toy_modes.json` and `toy_modes.png`.
"""

import argparse
import collections
import pathlib
import shlex
import statistics
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ganjax import errors, files
from ganjax.data import toy
from ganjax.runs import configs, plots, scoring
from ganjax.tools.compare import runs
from ganjax.tools.sweep import tables
from ganjax.tools.sweep.cell import DIVERGED, OVER, Cell

TABLE = "toy_modes"
NUM_NAMED = 3  # missing runs that an error names; it counts the others
# Facts of an environment that stay off the page: paths, the name of a machine,
# a moment.
PRIVATE = ("command", "platform", "time")

COLUMNS = 7  # panels side by side; the grid's row stands below the ring's
# Sizes of the figure in pixels: a panel's side, the gap between panels, the
# room for the words below a panel, and for those above a block of panels.
SIDE = 190
GAP = 18
LABEL = 34
TITLE = 48

# The conclusions, written by hand from the whole table. They have to be
# written anew when its numbers change.
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

Samples = dict[tuple[str, str], np.ndarray]


class _Parser(argparse.ArgumentParser):
  """A parser whose errors are one line."""

  def error(self, message: str):
    self.exit(2, f"error: {message}; see --help\n")


def main(argv: list[str] | None = None) -> int:
  """Runs the command line; returns the exit code."""
  parser = _Parser(
    prog="python results/toy_modes.py",
    description="Writes toy_modes.md, .json and .png from the runs that "
    "`ganjax sweep toy_modes --out RUNS` trained.",
    allow_abbrev=False,
  )
  add = parser.add_argument
  add("runs", type=pathlib.Path, metavar="RUNS", help="folder of the runs")
  add("--out", type=pathlib.Path, required=True, help="folder of the page")
  add("--smoke", action="store_true", help="RUNS are those of toy_modes:smoke")
  argv = sys.argv[1:] if argv is None else argv
  args = parser.parse_args(argv)
  command = shlex.join(["python", "results/toy_modes.py", *argv])

  try:
    document, samples = read(args.runs, args.smoke)
    document = {"command": command, **document}
    files.write_json(args.out / "toy_modes.json", document)
    draw(args.out / "toy_modes.png", samples, document)
    path = args.out / "toy_modes.md"
    path.write_text(page_text(document), encoding="utf-8")
  except (errors.UserError, OSError) as error:
    print(f"error: {error}", file=sys.stderr)
    return 2
  print(f"{len(document['runs'])} runs: {path}, .json and .png")
  return 0


# What the runs found, as plain data.


def read(folder: pathlib.Path, smoke: bool) -> tuple[dict[str, Any], Samples]:
  """Reads the runs of a sweep.

  Args:
    folder: of the sweep.
    smoke: whether the sweep was of the table's smoke form.

  Returns:
    The document, which JSON can hold, and (dataset, setting) -> float
    `[N, 2]`: the last samples of the runs with the first seed. A run that
    diverged has none.

  Raises:
    UserError: runs are missing, or one cannot be read.
  """
  spec = f"{TABLE}:smoke" if smoke else TABLE
  out = shlex.quote(str(folder))
  sweep = f"ganjax sweep {spec} --jobs 2 --out {out}"
  table = tables.load(spec)
  cells = tables.cells(table, folder)
  outcomes = _outcomes(cells, sweep)
  found, _ = runs.read([cell.workdir for cell in cells])

  results = []
  environments = []
  samples = {}
  for cell, run in zip(cells, found, strict=True):
    state, note = outcomes[cell]
    result = _result(cell, run, state, note)
    results.append(result)
    if "modes" in result and cell.seed == table["seeds"][0]:
      samples[_place(cell.label)] = _last_samples(cell.workdir)
    environment = {k: v for k, v in run.environment.items() if k not in PRIVATE}
    if environment and environment not in environments:
      environments.append(environment)

  rows = {_place(row["label"]): row for row in table["rows"]}
  # A setting has the same flags on both datasets.
  flags = {title: tables.flags(row) for (_, title), row in rows.items()}
  # All rows of a dataset are of one experiment.
  resolved = {
    kind: configs.resolve(configs.load(row["experiment"]))
    for (kind, _), row in rows.items()
  }
  document = dict(
    sweep=sweep,
    default=not smoke,
    seeds=list(table["seeds"]),
    settings=[dict(title=k, flags=v) for k, v in flags.items()],
    protocol={kind: config.to_dict() for kind, config in resolved.items()},
    environments=environments,
    real={kind: _real(config) for kind, config in resolved.items()},
    runs=results,
  )
  return document, samples


def _place(label: str) -> tuple[str, str]:
  """Splits the label of a row into (dataset, setting)."""
  kind, _, title = label.partition(": ")
  return kind, title


def _outcomes(cells: Sequence[Cell], sweep: str) -> dict[Cell, tuple[str, str]]:
  """Returns (state, note) of each cell, all of which have to be over."""
  wanted = tables.check(cells)
  result = {cell: cell.outcome(wanted[cell]) for cell in cells}
  missing = [c.name for c, (state, _) in result.items() if state not in OVER]
  if missing:
    names = missing[:NUM_NAMED]
    if len(missing) > NUM_NAMED:
      names.append(f"{len(missing) - NUM_NAMED} more")
    raise errors.UserError(
      f"{len(missing)} of {len(cells)} runs are missing ({'; '.join(names)}); "
      f"this trains them: {sweep}"
    )
  return result


def _result(cell: Cell, run: runs.Run, state: str, note: str) -> dict[str, Any]:
  """Returns what one run found."""
  kind, title = _place(cell.label)
  place = dict(dataset=kind, setting=title, seed=cell.seed)
  if state == DIVERGED:
    return {**place, "state": state, "note": note}
  record = run.records.get(runs.LAST, {}).get("modes")
  if record is None:
    raise errors.UserError(
      f"{cell.name}: no score of its modes; this makes it: "
      f"ganjax evaluate {shlex.quote(str(cell.workdir))}"
    )
  # Rows with losses carry the diagnosis of training; the last one counts.
  diagnoses = [row.get("diagnosis") for row in run.rows if "d_loss" in row]
  last = diagnoses[-1] if diagnoses else ""
  return {**place, "state": last or "none", **record.values}


def _last_samples(workdir: pathlib.Path) -> np.ndarray:
  """Returns the samples that a run drew at its last step, float `[N, 2]`."""
  paths = sorted((workdir / "samples").glob("*.npy"))
  if not paths:
    raise errors.UserError(f"{workdir}/samples holds no samples")
  return np.load(paths[-1])


def _real(config: configs.Config) -> dict[str, float]:
  """Scores held-out data: the best values that samples can reach."""
  evaluator = scoring.evaluator_of(config)
  return evaluator.compare({"modes": {}}, evaluator.test.images)["modes"].values


# The page.


def page_text(document: dict[str, Any]) -> str:
  """Returns the page as Markdown."""
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
  lines = ["# Which objectives keep all modes of toy data", ""]
  if document["default"]:
    lines.append(SEEN)
  lines += [_fill(made), "", _fill(how), ""]
  for kind in protocol:
    lines += [*table_lines(document, kind), ""]
  lines += ["![samples](toy_modes.png)", "", "The first seed.", ""]
  lines += [
    "Each run is `python -m ganjax.main --config toy_ring FLAGS "
    "--config.seed=SEED`, or `toy_grid`:",
    "",
    "| setting | flags |",
    "|---|---|",
  ]
  for setting in document["settings"]:
    given = " ".join(setting["flags"])
    lines.append(f"| {setting['title']} | {given and f'`{given}`'} |")
  return "\n".join([*lines, ""])


def table_lines(document: dict[str, Any], kind: str) -> list[str]:
  """Returns the lines of a dataset's table."""
  found = [run for run in document["runs"] if run["dataset"] == kind]
  real = document["real"][kind]
  title = f"{kind}: modes of {real['modes']:.0f}, mean (each seed)"
  lines = [
    f"| setting | {title} | high quality | KL of modes | state at the end |",
    "|---|---|---|---|---|",
  ]
  for setting in document["settings"]:
    mine = [run for run in found if run["setting"] == setting["title"]]
    lines.append(f"| {' | '.join([setting['title'], *columns(mine)])} |")
  count = f"{real['modes_covered']:.0f}"
  scores = f"{real['high_quality']:.3f} | {real['mode_kl']:.3f}"
  lines.append(f"| *held-out data* | {count} | {scores} | |")
  return lines


def columns(same: Iterable[dict[str, Any]]) -> list[str]:
  """Returns the cells of a row: the runs of one setting on one dataset.

  Means are over the runs that did not diverge.
  """
  same = list(same)
  good = [run for run in same if "modes" in run]
  counts = [
    f"{run['modes_covered']:.0f}" if "modes" in run else "–" for run in same
  ]
  modes = f"({', '.join(counts)})"
  if good:
    mean = statistics.fmean(run["modes_covered"] for run in good)
    modes = f"{mean:.1f} {modes}"
  states = collections.Counter(run["state"] for run in same)
  return [
    modes,
    spread([run["high_quality"] for run in good], 3),
    spread([run["mode_kl"] for run in good], 3),
    ", ".join(f"{n} {state}" for state, n in states.most_common()),
  ]


def spread(values: Sequence[float], digits: int) -> str:
  """Returns `mean ± standard deviation` (n - 1), or a single value alone."""
  if not values:
    return "–"
  text = f"{statistics.fmean(values):.{digits}f}"
  if len(values) > 1:
    text += f" ± {statistics.stdev(values):.{digits}f}"
  return text


def _fill(words: str) -> str:
  return textwrap.fill(words, 80, break_on_hyphens=False)


def _machine(environment: Mapping[str, Any]) -> str:
  """Describes the hardware and the versions of a run in words."""
  versions = environment["versions"]
  names = ("python", "jax", "flax", "optax")
  device = f"{environment['cpu_count']} CPU cores"
  if environment["backend"] != "cpu":
    device = environment["device_kind"]
  return ", ".join([device, *(f"{name} {versions[name]}" for name in names)])


# The figure.


def draw(
  path: pathlib.Path, samples: Samples, document: Mapping[str, Any]
) -> None:
  """Draws the samples of every setting with the first seed.

  Settings stand in blocks of `COLUMNS`; within a block each dataset is a row.

  Args:
    path: of the PNG.
    samples: (dataset, setting) -> float `[N, 2]`; a run that diverged has none.
    document: what `page_text` writes about.
  """
  settings = [setting["title"] for setting in document["settings"]]
  kinds = list(document["protocol"])
  across = min(COLUMNS, len(settings))
  num_blocks = -(-len(settings) // across)
  block_height = TITLE + len(kinds) * (SIDE + LABEL)
  width = across * (SIDE + GAP) + GAP
  height = num_blocks * block_height + TITLE
  page = plots.figure(width, height)
  for run in document["runs"]:
    if run["seed"] != document["seeds"][0]:
      continue
    kind = run["dataset"]
    title = run["setting"]
    block, column = divmod(settings.index(title), across)
    row = kinds.index(kind)
    x = GAP + column * (SIDE + GAP)
    y = block * block_height + TITLE + row * (SIDE + LABEL) + SIDE
    # Matplotlib measures in shares of the page, from its lower left corner.
    box = (x / width, 1 - y / height, SIDE / width, SIDE / height)
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


def _panel(
  axes, run: Mapping[str, Any], points: np.ndarray | None, std: float
) -> None:
  """Draws the samples of a run and says how many modes they cover."""
  centres = toy.centres(run["dataset"])
  # A disc is wider than the data, so that it shows where a mode is lost.
  axes.scatter(*centres.T, s=90, color="#dcdcdc", linewidths=0)
  words = "diverged"
  all_covered = False
  if points is not None:
    distances = np.linalg.norm(points[:, None] - centres, axis=-1).min(axis=1)
    near = distances <= 3 * std
    for some, colour in (~near, plots.ORANGE), (near, plots.BLUE):
      axes.scatter(*points[some].T, s=2, color=colour, alpha=0.5, linewidths=0)
    all_covered = run["modes_covered"] >= run["modes"]
    words = (
      f"{run['modes_covered']:.0f} / {run['modes']:.0f}    "
      f"{100 * run['high_quality']:.0f} % near"
    )
  colour = "black" if all_covered else plots.ORANGE
  axes.set_xlabel(words, fontsize=8, labelpad=3, color=colour)
  axes.set(xlim=(-1.1, 1.1), ylim=(-1.1, 1.1), aspect="equal")
  axes.set(xticks=[], yticks=[])
  for spine in axes.spines.values():
    spine.set(linewidth=0.5, color="#bbbbbb")


if __name__ == "__main__":
  sys.exit(main())
