"""The page of the measurements; what people write below a line stays."""

import pathlib
import textwrap
from collections.abc import Iterable
from typing import Any, TypeAlias

MARKER = "<!-- By hand from here on: `ganjax bench --all` keeps it. -->"
COLUMNS = (
  "experiment",
  "form",
  "ms a step (quartiles)",
  "images/s",
  "GFLOP a step",
  "of the dense rate",
  "compilation, s",
  "memory, GB",
  "plain / fast",
)

# What `measure.measure` returns.
Record: TypeAlias = dict[str, Any]


def best(runs: list[Record]) -> dict[tuple[str, str], Record]:
  """Returns (experiment, form) -> its fastest run, in the order of the runs.

  Other work of a machine can only make a step slower, so the fastest says most
  of the step itself.
  """
  chosen: dict[tuple[str, str], Record] = {}
  for run in runs:
    key = (run["config"], run["form"])
    other = chosen.get(key)
    if other is None or run["ms"] <= other["ms"]:
      chosen[key] = run
  return chosen


def row(run: Record, plain: Record | None) -> list[str]:
  """Returns the cells of a run.

  Args:
    run: the record.
    plain: the record of the same experiment in plain form, if there is one.
  """
  low, high = run["ms_quartiles"]
  ratio = ""
  if plain and run["form"] == "fast":
    ratio = f"{plain['ms'] / run['ms']:.2f}"
  return [
    run["config"],
    run["form"],
    f"{number(run['ms'])} ({number(low)}-{number(high)})",
    number(run["images_per_sec"]),
    number(run["flops"] / 1e9),
    f"{100 * run['share']:.0f} %",
    number(run["compile_s"]),
    f"{run['peak_bytes'] / 1e9:.2f}",
    ratio,
  ]


def number(value: float) -> str:
  """Returns a number with three digits, or all before the point."""
  return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def text(document: dict[str, Any]) -> str:
  """Returns the page down to the marker."""
  runs = document["runs"]
  first = runs[0]
  rates = [run["dense_gflops_per_s"] for run in runs]
  versions = ", ".join(f"{k} {v}" for k, v in first["versions"].items())
  where = f"{first['devices']} {first['device']}"
  if first["device"] == "cpu":
    where = f"{first['cores']} CPU cores"
  commit = first["commit"] or "unknown"
  if len(commit) > 12:  # The plus says that files differed from the commit.
    commit = commit[:12] + ("+" if commit.endswith("+") else "")
  made = (
    f"`{document['command']}` on {where}, {versions}, commit {commit}, "
    f"{first['time'][:10]}."
  )
  how = (
    "A step is a whole one of training: all updates of the discriminator and "
    "one of the generator, each step awaited. Times are medians with "
    f"quartiles of {first['steps']} steps or more, in a process of its own; "
    "the forms were run in turn, twice, and the faster run of each is shown. "
    "Plain is every convolution as it is written, fast is what training uses. "
    "GFLOP are those of matrix products and convolutions, without zeros of "
    "dilations; where plain does more of them, as between upsampled pixels "
    "that are equal, its share of the dense rate is no merit. The dense rate "
    "is that of a large square matrix product in the same process: "
    f"{number(min(rates))} to {number(max(rates))} GFLOP/s. "
    "Compilation is that of a first start, without a cache; memory is "
    f"the peak ({first['peak_of']})."
  )
  table = best(runs)
  lines = ["# Speed", "", fill(made), "", fill(how), ""]
  lines += [line(COLUMNS), "|" + "---|" * len(COLUMNS)]
  for (config, _), run in table.items():
    lines.append(line(row(run, table.get((config, "plain")))))
  return "\n".join([*lines, "", "All runs are in `speed.json`.", ""])


def write(path: pathlib.Path, document: dict[str, Any]) -> None:
  """Writes the page anew, but for what stands below the marker."""
  write_text(path, text(document))


def write_text(path: pathlib.Path, upper: str) -> pathlib.Path:
  """Writes what stands above the marker of a page; returns the path."""
  old = path.read_text(encoding="utf-8") if path.exists() else ""
  _, _, kept = old.partition(MARKER)
  path.write_text(f"{upper}\n{MARKER}{kept or chr(10)}", encoding="utf-8")
  return path


def line(cells: Iterable[str]) -> str:
  """Returns a row of a table."""
  return f"| {' | '.join(cells)} |"


def fill(words: str) -> str:
  """Returns words in lines of 80 letters."""
  return textwrap.fill(
    words, 80, break_on_hyphens=False, break_long_words=False
  )
