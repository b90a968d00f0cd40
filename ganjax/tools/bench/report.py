"""What a compiler says of a step, as a terminal shows it."""

import re
from typing import Any

from rich import box, console, table

from ganjax.tools.bench.page import number

MB = 1e6


def show(record: dict[str, Any]) -> None:
  """Prints a record of `estimate.estimate`."""
  out = console.Console(highlight=False)
  grid = table.Table(box=box.SIMPLE, show_header=False)
  for name, text in rows(record).items():
    grid.add_row(name, text)
  out.print(grid)
  dearest = record.get("dearest")
  if dearest:
    out.print(_dearest(dearest, record.get("cycles", 0)))


def rows(record: dict[str, Any]) -> dict[str, str]:
  """Returns name -> text of what there is to say in a line."""
  # Their cores are devices of their own.
  half = record["target"].startswith(("v3", "v4"))
  core = ", each half of a chip" if half else ""
  size = f"batch {record['batch_size']}, {record['d_steps']} D to 1 G"
  found = {
    "experiment": f"{record['config']}, {record['precision']}, {size}",
    "target": f"{record['devices']} {record['device']}{core}; nothing was run",
  }
  if record["steps_per_call"] > 1:
    found["program"] = f"{record['steps_per_call']} steps in one dispatch"
  if record["population"]:
    found["population"] = f"{record['population']} members in one program"
  if not record["fits"] and "memory" not in record:
    found["memory"] = (
      f"{gb(record['needed_bytes'])} GB are needed, and there are "
      f"{gb(record['memory_limit'])}: the compiler refuses it"
    )
    return found
  if "cycles" in record:
    found["step, estimated"] = (
      f"{record['cycles']:,} cycles, {number(record['ms'])} ms: "
      f"{number(record['steps_per_sec'])} steps/s, "
      f"{number(record['images_per_sec'])} real images/s"
    )
    found["share of the peak"] = (
      f"{100 * record['share']:.1f} % of {record['peak_flops'] / 1e12:.0f} "
      "TFLOP/s in bfloat16, of each device"
    )
  else:
    calls = record["library_calls"]
    named = ", ".join(f"{count} {name}" for name, count in calls.items())
    found["kernels"] = f"{record['kernels']:,} a step"
    found["library calls"] = named or "none"
    found["layout changes"] = (
      f"{record['layout_changes']} a step, "
      f"{number(record['layout_change_bytes'] / MB)} MB"
    )
  work = f"{number(record['flops'] / 1e9)} GFLOP a step of products"
  if "bytes" in record:
    work += (
      f"; as compiled, {number(record['compiled_flops'] / 1e9)} GFLOP and "
      f"{number(record['bytes'] / MB)} MB read or written on each device"
    )
  found["work"] = f"{work}; {record['operations']:,} operations"
  memory = record["memory"]
  share = 100 * memory["total"] / record["memory_limit"]
  parts = ", ".join(
    f"{name} {number(memory[name] / MB)}"
    for name in ("arguments", "temporary", "results", "code")
  )
  found["memory, MB"] = (
    f"{number(memory['total'] / MB)} ({parts}): {share:.1f} % of the "
    f"device's {gb(record['memory_limit'])} GB"
  )
  at_rest = number(record["dataset_bytes"] / MB)
  touched = record["touch_dataset"]
  if record["dataset"] == "streamed":
    found["dataset"] = "streamed, a step at a time"
  elif touched:
    found["dataset"] = f"all of its {at_rest} MB are moved by {touched[0]}"
  else:
    found["dataset"] = f"{at_rest} MB at rest: the gather alone reads them"
  if record["collectives"]:
    found["collectives"] = ", ".join(
      f"{number(row['count'])} {name} of {number(row['bytes'] / MB)} MB in all"
      for name, row in record["collectives"].items()
    )
  if record.get("assumed"):
    found["dataset"] += f"; {record['assumed']:,} images are assumed"
  if record["open_loops"]:
    found["loops"] = (
      f"{record['open_loops']} of unknown length are counted once"
    )
  found["compilation"] = (
    f"{number(record['compile_s'])} s ({number(record['compile_cpu_s'])} s of "
    f"all cores), and {number(record['lower_s'])} s of tracing before"
  )
  return found


def without_mapping(path: str) -> str:
  """Returns what asked for an operation, without what maps the step."""
  return re.sub(r"^(jit|pmap)\(\w+\)/(shard_map/)?", "", path)


def gb(size: float) -> str:
  """Returns bytes as GB."""
  return f"{size / 1e9:.1f}"


def _dearest(rows: list[dict[str, Any]], total: float) -> table.Table:
  """Returns the table of what takes most."""
  unit = "cycles" if "cycles" in rows[0] else "bytes"
  grid = table.Table(unit, "%", "what", "asked for by", box=box.SIMPLE_HEAD)
  for row in rows:
    share = f"{100 * row[unit] / total:.0f}" if total else ""
    what = f"{row['operation']} {row['result'].partition('{')[0].strip('(')}"
    path = without_mapping(row["asked_by"])
    place = row["source"] or path
    if row["source"] and path:
      place = f"{row['source']} ({path})"
    grid.add_row(f"{row[unit]:,}", share, what, place)
  return grid
