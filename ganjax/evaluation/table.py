"""Records as a table that people read, flags and protocol below it."""

import pathlib
from collections.abc import Mapping
from typing import Any

from rich import box, console, table

from ganjax import files
from ganjax.evaluation import evaluator as evaluate
from ganjax.evaluation import metrics

Records = Mapping[str, metrics.Record]

# Values that are not rounded to three digits: counts, shares, nats.
FORMATS: dict[Any, str] = (
  dict.fromkeys("classes_covered classes modes_covered modes".split(), "{:.0f}")
  | dict.fromkeys(
    "high_quality precision recall density coverage ssim ms_ssim "
    "ms_ssim_real classification_accuracy classification_accuracy_real "
    "roc_auc label_accuracy label_accuracy_worst label_accuracy_real "
    "two_sample_accuracy nn_accuracy_real nn_accuracy_fake".split(),
    "{:.3f}",
  )
  | dict.fromkeys("parzen parzen_error psnr elbo kl".split(), "{:.1f}")
  | dict.fromkeys("importance_bound elbo_error kl_error".split(), "{:.1f}")
  | dict.fromkeys(
    "importance_bound_error test_error test_error_error".split(), "{:.1f}"
  )
)
# A spread stands behind its value.
SPREADS = ("_std", "_error")
# With more values than this they are rows, not columns.
MAX_COLUMNS = 6


def _text(name: str, value: float) -> str:
  if name not in FORMATS and abs(value) >= 999.5:
    return f"{value:,.0f}"  # Not 2.53e+03.
  return FORMATS.get(name, "{:.3g}").format(value)


def cells(records: Records) -> dict[str, str]:
  """Returns what stands for some records in a table: title -> text."""
  numbers, flagged = {}, set()
  for record in records.values():
    numbers |= record.values
    flagged |= record.values.keys() if record.flags else set()
  texts = {k: _text(k, v) for k, v in numbers.items()}
  result = {}
  for name, text in texts.items():
    if any(name.endswith(s) and _base(name, s) in texts for s in SPREADS):
      continue
    for spread in SPREADS:
      if (beside := name.removesuffix("_mean") + spread) in texts:
        text += f" ± {texts[beside]}"
    title = name.removesuffix("_mean").replace("_", " ")
    result[title] = text + "*" * (name in flagged)
  for name in ("classes", "modes"):
    if name in result:  # A count says little without how many there are.
      total = result.pop(name).rstrip("*")
      covered, _, star = result[f"{name} covered"].partition("*")
      result[f"{name} covered"] = f"{covered} of {total}" + "*" * bool(
        _ or star
      )
  return result


def _base(name: str, spread: str) -> str:
  """Returns the value whose spread `name` is, by the end of its name."""
  base = name.removesuffix(spread)
  return base if spread == "_error" else f"{base}_mean"


def show(rows: Mapping[str, Records], evaluator: "evaluate.Evaluator") -> None:
  """Prints who was scored beside how, with what the numbers stand for.

  Args:
    rows: who -> metric -> record.
    evaluator: that scored them.
  """
  out = console.Console(highlight=False)
  texts = {_title(who, x): cells(x) for who, x in rows.items()}
  titles = list(dict.fromkeys(t for cell in texts.values() for t in cell))
  if len(titles) > MAX_COLUMNS:
    grid = table.Table("", *texts, box=box.SIMPLE_HEAD)
    for title in titles:
      grid.add_row(title, *(cell.get(title, "") for cell in texts.values()))
  else:
    grid = table.Table("", *titles, box=box.SIMPLE_HEAD)
    for who, cell in texts.items():
      grid.add_row(who, *(cell.get(title, "") for title in titles))
  out.print(grid)
  for line in (*flags(rows), protocol(rows, evaluator)):
    out.print(line, soft_wrap=True)


def _title(who: str, records: Records) -> str:
  """Returns what stands in the table for the row `who`."""
  for record in records.values():
    if "step" in record.protocol:
      return f"{who} (step {record.protocol['step']})"
  return who


def write(path: pathlib.Path, rows: Mapping[str, Records]) -> None:
  """Writes who -> metric -> record as JSON."""
  plain = {
    who: {name: record.to_dict() for name, record in records.items()}
    for who, records in rows.items()
  }
  files.write_json(path, plain)


def flags(rows: Mapping[str, Records]) -> list[str]:
  """Returns a line for each flagged record: what the stars mean."""
  return [
    f"* {who}, {name}: {', '.join(record.flags)}"
    for who, records in rows.items()
    for name, record in records.items()
    if record.flags
  ]


def protocol(
  rows: Mapping[str, Records], evaluator: "evaluate.Evaluator"
) -> str:
  """Returns what the numbers are measured against, and in what."""
  text, beside = evaluator.describe()
  facts: list[dict[str, Any]] = [
    r.protocol for records in rows.values() for r in records.values()
  ]
  if found := [f for f in facts if f["extractor"] != "none"]:
    text += f", in the features of {found[0]['extractor']}"
    notes = [f"{found[0]['resize']} resize"] if "resize" in found[0] else []
    if "extractor_accuracy" in found[0]:
      share = 100 * found[0]["extractor_accuracy"]
      notes.append(f"test accuracy {share:.1f} %")
    text += f" ({', '.join(notes)})" if notes else ""
  return text + beside
