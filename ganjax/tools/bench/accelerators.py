"""The page of what compilers say; what people write below a line stays."""

import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from ganjax import errors, files
from ganjax.tools.bench import page, report, targets
from ganjax.tools.bench.page import number

# What `estimate.estimate` returns.
Record: TypeAlias = dict[str, Any]
# Experiment, target, flags of its config, other flags.
Key: TypeAlias = tuple[str, str, tuple[str, ...], tuple[str, ...]]
Records: TypeAlias = Mapping[Key, Record]

TPU, GPU = "v5e", "h100"
# The smallest first.
TPU_SIZES = ("v5e", "v6e", "v5p")
GPU_SIZES = ("t4", "l4", "h100")
BFLOAT16 = ("--config.precision=bfloat16",)
# Experiments of which it is shown how they grow, and bytes a second that leave
# a v5e for its neighbours.
GROWN = ("cifar_dcgan", "cifar_hinge_sn", "cifar_r3gan")
LINKS = 200e9
NAME = "accelerators"
DRAWN = "cifar_dcgan"


def add(folder: pathlib.Path, command: str, runs: list[Record]) -> pathlib.Path:
  """Adds runs to what `folder` holds, and writes the page anew.

  Args:
    folder: with `accelerators.json` and the page, or to come.
    command: what made the runs.
    runs: of `estimate.estimate`; they take the places of older ones of the
      same experiment, target and flags.

  Returns:
    The path of the page.
  """
  path = folder / f"{NAME}.json"
  document = read(folder)
  found = by_key(document["runs"])
  for key, run in by_key(runs).items():
    if "error" not in run or key not in found:  # What is good stays.
      found[key] = run
  document["runs"] = [found[key] for key in sorted(found)]
  document["commands"] = sorted({*document["commands"], command})
  files.write_json(path, document)
  before = folder / f"{NAME}_before.json"
  old: list[Record] = []
  if before.exists():
    old = json.loads(before.read_text(encoding="utf-8"))["runs"]
  earlier = by_key(old)
  text = page_text(found, earlier, document["commands"])
  drawn = _of(earlier, TPU).get(DRAWN, {}), _of(found, TPU).get(DRAWN, {})
  if all("dearest" in run for run in drawn):
    draw(*drawn, folder / f"{NAME}.png")
  return page.write_text(folder / f"{NAME}.md", text)


def read(folder: pathlib.Path) -> dict[str, Any]:
  """Returns what `folder` holds of runs; nothing where it is not there yet.

  Raises:
    UserError: what is there is not of this tool.
    OSError: the folder cannot be made.
  """
  folder.mkdir(parents=True, exist_ok=True)
  path = folder / f"{NAME}.json"
  if not path.exists():
    return {"commands": [], "runs": []}
  try:
    document = json.loads(path.read_text(encoding="utf-8"))
    by_key(document["runs"])
    document["commands"] += []
  except (ValueError, TypeError, KeyError, AttributeError) as error:
    raise errors.UserError(
      f"{path} is not what ganjax wrote; give another --out, or delete it"
    ) from error
  return document


def draw(before: Record, now: Record, path: pathlib.Path) -> None:
  """Draws the dearest operations of a step, before and now.

  Args:
    before: of an older commit.
    now: of this one.
    path: of the picture.
  """
  from matplotlib import figure

  drawing = figure.Figure(figsize=(9, 6), layout="constrained")
  axes = drawing.subplots(2, 1, sharex=True)  # What shrinks looks smaller.
  for title, run, axis in (("before", before, axes[0]), ("now", now, axes[1])):
    rows = run["dearest"]
    names = [_name(row) for row in rows] + ["all others"]
    shown = [row["cycles"] for row in rows]
    shown.append(run["cycles"] - sum(shown))
    places = range(len(names))
    bars = axis.barh(places, [value / 1e6 for value in shown])
    axis.bar_label(bars, [f"{value / 1e6:.3f}" for value in shown], padding=3)
    axis.set_yticks(places, names, fontsize=8)
    axis.invert_yaxis()
    axis.margins(x=0.1)
    axis.set_xlabel("estimated million cycles")
    total = f"{run['cycles'] / 1e6:.2f} million"
    axis.set_title(f"{run['config']} on one {TPU}, {title}: {total}")
  drawing.savefig(path, dpi=100)


def _name(row: Mapping[str, Any]) -> str:
  """Returns what an operation is, in a line of a picture."""
  path = report.without_mapping(row["asked_by"])
  parts = [part for part in path.split("/") if part]
  said = "/".join(parts[-2:])
  result = row["result"].partition("{")[0].strip("(")
  return f"{row['operation']} {result} {said}"[:70]


def by_key(runs: Iterable[Record]) -> dict[Key, Record]:
  """Returns the runs by what they are of."""
  return {
    (
      run["config"],
      run["target"],
      tuple(run.get("overrides", ())),
      tuple(run.get("options", ())),
    ): run
    for run in runs
  }


def page_text(now: Records, before: Records, commands: Iterable[str]) -> str:
  """Returns the page down to the marker.

  Args:
    now: the runs.
    before: those of an older commit, where there are some.
    commands: what made the runs.
  """
  made = [run for run in now.values() if "commit" in run]
  newest = max(made, key=lambda run: run["time"], default=None)
  where = ""
  if newest:
    where = f", commit {newest['commit'][:12]}, {newest['time'][:10]}"
  lines = [
    "# Accelerators",
    "",
    page.fill(
      "These are estimates of compilers: nothing here was run on a TPU or a "
      "GPU. The compilers of both run on a CPU, and by `--target` the command "
      "`ganjax bench` compiles for them the step that training runs there."
    ),
    "",
    page.fill(
      f"{', '.join(f'`{command}`' for command in commands)}; "
      f"{_versions(now)}{where}."
    ),
    "",
  ]
  lines += _tpu(now, before)
  lines += _precisions(now)
  lines += _gpu(now, before)
  lines += _growth(now)
  lines += _sizes(now)
  return "\n".join([*lines, f"All runs are in `{NAME}.json`.", ""])


def _versions(now: Records) -> str:
  """Returns the versions of JAX and of the compilers."""
  found: dict[str, str] = {}
  for run in now.values():
    found |= {"jax": run["versions"]["jax"]} if "versions" in run else {}
    found |= run.get("compilers", {})
  return ", ".join(f"{name} {version}" for name, version in found.items())


def _of(
  records: Records, target: str, flags: tuple[str, ...] = ()
) -> dict[str, Record]:
  """Returns experiment -> its record, of one step."""
  return {
    config: run
    for (config, to, given, _), run in records.items()
    if (to, given) == (target, flags) and run.get("steps_per_call", 1) == 1
  }


def _tpu(now: Records, before: Records) -> list[str]:
  """Returns the table of one TPU."""
  rows = _of(now, TPU)
  old = _of(before, TPU)
  if not rows:
    return []
  header = (
    "experiment",
    "batch",
    "million cycles before",
    "now",
    "of before",
    "ms a step",
    "images/s",
    "of the peak",
    "memory, MB",
    "CPU s to compile",
  )
  cells = []
  for config, run in rows.items():
    if "error" in run or "cycles" not in run:
      cells.append([config, run.get("batch_size", ""), *_refused(run)])
      continue
    was = old.get(config, {}).get("cycles")
    cells.append(
      [
        config,
        run["batch_size"],
        f"{was / 1e6:.2f}" if was else "",
        f"{run['cycles'] / 1e6:.2f}",
        f"{run['cycles'] / was:.2f}" if was else "",
        number(run["ms"]),
        number(run["images_per_sec"]),
        f"{100 * run['share']:.1f} %",
        number(run["memory"]["total"] / 1e6),
        number(run["compile_cpu_s"]),
      ]
    )
  words = (
    "A step is a whole one of training, all updates of the discriminator and "
    "one of the generator, on one chip and in float32, whose products a TPU "
    "makes of bfloat16 numbers. Cycles are the sum of the compiler's estimates "
    "of the step's operations; copies between memories that overlap with them "
    "are not in it. Before is the commit at which this look began. The peak is "
    "that of products of bfloat16 numbers, and the share that of the "
    "operations of matrix products and convolutions, without zeros."
  )
  title = f"## One {TPU} ({targets.CHIPS[TPU].clock / 1e9:.1f} GHz)"
  return [title, "", page.fill(words), "", *_table(header, cells), ""]


def _refused(run: Record) -> list[str]:
  """Returns the last cells of what was not compiled."""
  if "error" in run:
    return [run["error"]]
  return ["", f"does not fit: {run['needed_bytes'] / 1e9:.1f} GB"]


def _precisions(now: Records) -> list[str]:
  """Returns the table of float32 against bfloat16."""
  whole = _of(now, TPU)
  half = _of(now, TPU, BFLOAT16)
  cells = []
  for config, run in half.items():
    other = whole.get(config, {})
    if "cycles" not in run or "cycles" not in other:
      continue
    cells.append(
      [
        config,
        f"{other['cycles'] / 1e6:.2f}",
        f"{run['cycles'] / 1e6:.2f}",
        f"{run['cycles'] / other['cycles']:.2f}",
        number(other["memory"]["total"] / 1e6),
        number(run["memory"]["total"] / 1e6),
      ]
    )
  if not cells:
    return []
  header = (
    "experiment",
    "million cycles, float32",
    "bfloat16",
    "of float32",
    "memory, MB, float32",
    "bfloat16",
  )
  return ["## bfloat16 on one v5e", "", *_table(header, cells), ""]


def _gpu(now: Records, before: Records) -> list[str]:
  """Returns the table of one GPU."""
  rows = _of(now, GPU)
  old = _of(before, GPU)
  if not rows:
    return []
  header = (
    "experiment",
    "kernels before",
    "now",
    "library calls",
    "layout changes",
    "of MB",
    "memory, MB",
    "CPU s to compile",
  )
  cells = []
  for config, run in rows.items():
    if "error" in run or "kernels" not in run:
      cells.append([config, *_refused(run)])
      continue
    cells.append(
      [
        config,
        old.get(config, {}).get("kernels", ""),
        run["kernels"],
        sum(run["library_calls"].values()),
        run["layout_changes"],
        number(run["layout_change_bytes"] / 1e6),
        number(run["memory"]["total"] / 1e6),
        number(run["compile_cpu_s"]),
      ]
    )
  words = (
    "The compiler of GPUs estimates no time. Library calls are those of cuDNN "
    "and cuBLAS; layout changes are kernels that only move numbers. What the "
    "libraries need for themselves is not in the memory."
  )
  return [f"## One {GPU}", "", page.fill(words), "", *_table(header, cells), ""]


def _growth(now: Records) -> list[str]:
  """Returns the table of one chip and more."""
  cells = []
  for config in GROWN:
    runs = [
      run
      for (name, target, *_), run in now.items()
      if name == config and target.partition(":")[0] == TPU and "cycles" in run
      if run["precision"] == "float32" and run["steps_per_call"] == 1
    ]
    runs.sort(key=lambda run: (run["devices"], run["batch_size"]))
    if not runs or runs[-1]["devices"] == 1:
      continue
    # An image on a chip of the fewest takes so long.
    first = runs[0]
    rate = first["batch_size"] / first["cycles"] / first["devices"]
    for run in runs:
      chips = run["devices"]
      each = run["batch_size"] / run["cycles"] / chips
      moved = sum(row["bytes"] for row in run["collectives"].values())
      seconds = 2 * (chips - 1) / chips * moved / LINKS
      cells.append(
        [
          config,
          chips,
          run["batch_size"],
          run["batch_size"] // chips,
          f"{run['cycles'] / 1e6:.2f}",
          f"{100 * each / rate:.0f} %",
          number(moved / 1e6),
          number(1e3 * seconds),
          number(run["memory"]["total"] / 1e6),
        ]
      )
  if not cells:
    return []
  header = (
    "experiment",
    "chips",
    "batch",
    "a chip",
    "million cycles",
    "images of a chip, by the first row",
    "MB of collectives",
    "ms of them",
    "memory a chip, MB",
  )
  words = (
    "The compiler estimates no cycles of what chips say to each other, so the "
    "share counts computation alone; the column of milliseconds is what the "
    f"bytes take on a ring of links of {LINKS / 1e9:.0f} GB/s, if nothing is "
    "computed meanwhile. Batch norm and losses see the whole batch, as on one "
    "chip."
  )
  return [
    "## How it grows",
    "",
    page.fill(words),
    "",
    *_table(header, cells),
    "",
  ]


def _sizes(now: Records) -> list[str]:
  """Returns the table of the smallest chips on which experiments fit."""
  cells = []
  tpu = _of(now, TPU)
  gpu = _of(now, GPU)
  for config in sorted(tpu.keys() | gpu.keys()):
    row = [config]
    for run, chips in (
      (tpu.get(config), TPU_SIZES),
      (gpu.get(config), GPU_SIZES),
    ):
      if run is None or "needed_bytes" not in run:
        row += ["", ""]
        continue
      needed = run["needed_bytes"]
      row += [f"{needed / 1e9:.2f}", smallest(needed, chips) or "none"]
    cells.append(row)
  header = ("experiment", "GB on a TPU", "fits", "GB on a GPU", "fits")
  sizes = ", ".join(
    f"{name} {targets.CHIPS[name].memory / 1e9:.1f}"
    for name in (*TPU_SIZES, *GPU_SIZES)
  )
  words = (
    "The smallest chip that holds a step with its training set, as compiled "
    f"for the chips above; GB that programs can use: {sizes}."
  )
  return [
    "## Where it fits",
    "",
    page.fill(words),
    "",
    *_table(header, cells),
    "",
  ]


def smallest(needed: int, chips: Iterable[str]) -> str:
  """Returns the first chip that has so many bytes, or nothing."""
  fitting = (name for name in chips if targets.CHIPS[name].memory >= needed)
  return next(fitting, "")


def _table(header: Iterable[str], cells: list[list[Any]]) -> list[str]:
  """Returns the lines of a table; short rows are filled up."""
  header = [*header]
  lines = [page.line(header), "|" + "---|" * len(header)]
  for row in cells:
    full = [*map(str, row), *[""] * (len(header) - len(row))]
    lines.append(page.line(full))
  return lines
