"""The history of a run: the rows of `metrics.jsonl`, one JSON object a line."""

import contextlib
import json
import pathlib
from typing import Any

from ganjax import files

# The file's name in a workdir.
HISTORY = "metrics.jsonl"
# JSON has no numbers for these: `Log` writes them as texts.
NOT_FINITE = {name: float(name) for name in ("nan", "inf", "-inf")}


def read_history(workdir: str | pathlib.Path) -> list[dict[str, Any]]:
  """Returns the rows of a run's history, `[]` if it has none.

  A line that a crash has torn is left out. The texts "nan", "inf" and "-inf"
  become floats again; other texts, such as a diagnosis, stay texts.

  Args:
    workdir: of the run.

  Returns:
    One dict a row. Each has an integer `step`.
  """
  rows = []
  for line in _lines(pathlib.Path(workdir) / HISTORY):
    # Deeply nested garbage ends in a RecursionError.
    with contextlib.suppress(ValueError, RecursionError):
      row = json.loads(line)
      if isinstance(row, dict) and isinstance(row.get("step"), int):
        rows.append({key: NOT_FINITE.get(str(x), x) for key, x in row.items()})
  return rows


def truncate_history(workdir: str | pathlib.Path, last_step: int) -> None:
  """Drops the rows after `last_step`, and lines that are torn.

  A run that resumes at an earlier step logs the steps after it once more.

  Args:
    workdir: of the run; nothing happens where it has no history.
    last_step: the last step whose row is kept; 0 drops all rows.

  Raises:
    OSError: the file cannot be written.
  """
  path = pathlib.Path(workdir) / HISTORY
  if not path.exists():
    return
  kept = []
  for line in _lines(path):
    with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
      if last_step and json.loads(line)["step"] <= last_step:
        kept.append(line + b"\n")
  files.write_bytes(path, b"".join(kept))


def _lines(path: pathlib.Path) -> list[bytes]:
  """Returns the lines of a file as bytes: torn ones may be no UTF-8."""
  return path.read_bytes().split(b"\n") if path.exists() else []
