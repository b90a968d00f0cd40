"""Names of settings: the fewest keys of their configs that tell them apart."""

import itertools
from collections.abc import Mapping, Sequence

# Names are searched among so many keys, of at most so many at a time.
MAX_KEYS, MAX_TOGETHER = 40, 3
MAX_TEXT = 40  # letters of a value in a name


def differences(
  configs: Sequence[Mapping[str, str]],
) -> dict[str, list[str | None]]:
  """Returns key -> its value in each config (None: absent), if they differ."""
  keys = dict.fromkeys(key for config in configs for key in config)
  rows = {key: [config.get(key) for config in configs] for key in sorted(keys)}
  return {key: row for key, row in rows.items() if len(set(row)) > 1}


def of_settings(configs: Sequence[Mapping[str, str]]) -> list[str]:
  """Returns what tells each config from the others, in the fewest keys."""
  differ = differences(configs)

  def cost(key: str):
    # A key that all have says more, and a name more than a number.
    absent = None in differ[key]
    return absent, not key.endswith("name"), key.count("."), len(key), key

  def told(chosen: Sequence[str]) -> int:
    return len({*zip(*(differ[key] for key in chosen), strict=True)})

  keys = sorted(differ, key=cost)
  sizes = range(1, min(MAX_TOGETHER, len(keys)) + 1)
  sets = (s for n in sizes for s in itertools.combinations(keys[:MAX_KEYS], n))
  chosen = list(next((s for s in sets if told(s) == len(configs)), ()))
  while keys and told(chosen) < len(configs):  # Then step by step.
    chosen.append(max(keys, key=lambda key: told([*chosen, key])))
  rows = [[differ[key][i] for key in chosen] for i in range(len(configs))]
  return [_name(chosen, row) for row in rows]


def _name(keys: Sequence[str], row: Sequence[str | None]) -> str:
  """Returns `section.key=value` of what is there, `section=` for a name."""
  texts = []
  for key, value in zip(keys, row, strict=True):
    if value is not None:
      short = value if len(value) <= MAX_TEXT else value[: MAX_TEXT - 1] + "…"
      texts.append(key.removesuffix(".name") + "=" + (short or "''"))
  return ", ".join(texts or [f"no {key}" for key in keys])


def common(names: Sequence[str]) -> str:
  """Returns what the names of folders begin with, without a seed's mark."""
  start = names[0]
  while not all(name.startswith(start) for name in names):
    start = start[:-1]
  return (start.rstrip("_-. ") if len(names) > 1 else start) or names[0]
