"""Which objectives keep every mode of the ring and the grid.

The settings of `ganjax.toy_modes`, whose page also draws the samples; no paper
has this table. 84 short runs, for a few cores: `--jobs 2`.
"""

from ganjax.toy_modes import cells


def leaves(path: str, tree: dict) -> dict:
  """Returns dotted key -> value of what a setting changes."""
  found = {}
  for key, value in tree.items():
    nested = isinstance(value, dict)
    found |= leaves(f"{path}{key}.", value) if nested else {path + key: value}
  return found


def get_table(arg: str = "") -> dict:
  """Returns the table; it knows no argument."""
  rows = []
  for kind in cells.KINDS:
    for setting in cells.SETTINGS:
      changes = {k: v for k, v in setting.items() if k != "title"}
      rows.append(
        dict(
          label=f"{kind}: {setting['title']}",
          experiment=f"toy_{kind}",
          overrides=leaves("", changes),
        )
      )
  table = dict(
    title="Which objectives keep every mode of toy data",
    source="Settings of ours, see results/toy_modes.md",
    seeds=(0, 1, 2),
    values=("modes_covered", "high_quality", "mode_kl"),
    rows=rows,
  )
  return {"": table}[arg]
