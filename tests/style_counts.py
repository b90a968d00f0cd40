"""Counts habits of style in the source: `python tests/style_counts.py [DIR]`.

They are a look from outside, not a rule: no test fails by them.
"""

import ast
import io
import pathlib
import sys
import tokenize

ROOT = pathlib.Path(__file__).resolve().parent.parent
HABITS = (
  "parallel assignments",
  "|= assignments",
  "functools.partial",
  "the name Any",
  "lines with a comment",
)


def count(source: str) -> dict[str, int]:
  """Returns habit -> how often it stands in a file's text."""
  found = dict.fromkeys(HABITS, 0)
  for node in ast.walk(ast.parse(source)):
    match node:
      case ast.Assign(targets=[ast.Tuple()], value=ast.Tuple()):
        found["parallel assignments"] += 1
      case ast.AugAssign(op=ast.BitOr()):
        found["|= assignments"] += 1
      case ast.Call(func=ast.Attribute(attr="partial")):
        found["functools.partial"] += 1
      case ast.Call(func=ast.Name(id="partial")):
        found["functools.partial"] += 1
      case ast.Name(id="Any"):
        found["the name Any"] += 1
  tokens = tokenize.generate_tokens(io.StringIO(source).readline)
  lines = {t.start[0] for t in tokens if t.type == tokenize.COMMENT}
  found["lines with a comment"] = len(lines)
  return found


def main(folder: pathlib.Path) -> None:
  """Prints each habit, in all and for every 1,000 lines."""
  files = sorted(folder.rglob("*.py"))
  sources = [path.read_text() for path in files]
  num_lines = sum(len(source.splitlines()) for source in sources)
  print(f"{folder}: {len(files)} files, {num_lines:,} lines")
  counts = [count(source) for source in sources]
  for habit in HABITS:
    total = sum(found[habit] for found in counts)
    print(f"{habit:22} {total:6} {1000 * total / num_lines:6.1f}")


if __name__ == "__main__":
  main(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "ganjax")
