"""Pictures that look into a trained run, each with the numbers behind it.

Each file `analyze/<name>.py` registers a function of the file's name in
`PICTURES`: `draw(subject, path) -> (text, numbers)`. It draws one picture, says
in a line what is seen, and returns the numbers as JSON can hold them. It raises
a `UserError` where a run does not admit it. A picture from elsewhere is named
`module:attribute`, or `file.py:attribute`.
"""

import json
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from ganjax import errors, files, registry

if TYPE_CHECKING:  # It imports JAX, which `--help` need not wait for.
  from ganjax.tools.analyze.subject import Subject

HELPERS = ("command", "pages", "subject")
FILE = "analysis.json"

PICTURES = registry.Registry("picture", __name__, HELPERS)


class Outcome(NamedTuple):
  """What became of one picture.

  Attributes:
    name: of the picture.
    text: what it shows, or why there is none.
    path: of the PNG; None if there is none.
  """

  name: str
  text: str
  path: pathlib.Path | None


# What JSON can hold.
Numbers: TypeAlias = dict[str, Any]
# What is seen in a picture, in a line, and the numbers behind it.
Drawn: TypeAlias = tuple[str, Numbers]
Draw: TypeAlias = Callable[["Subject", pathlib.Path], Drawn]


def find(name: str) -> Draw:
  """Returns the function that draws `name`, or raises a `UserError`."""
  return PICTURES.find(name)


def names() -> list[str]:
  """Returns the names of the pictures that there are."""
  return PICTURES.names()


def analyze(
  subject: "Subject", out: pathlib.Path, only: Sequence[str] = ()
) -> Iterator[Outcome]:
  """Draws pictures into `out` one by one, and writes `analysis.json` there.

  What that file holds of other pictures stays, if it is of the same samples.

  Args:
    subject: the run and what it is compared with.
    out: a folder; made if missing.
    only: which pictures; all that there are if empty.

  Yields:
    What became of each picture. A picture that the run does not admit has no
    path, and its text says why.

  Raises:
    UserError: there is no such picture.
    OSError: `out` cannot be written.
  """
  # The attribute alone names the file of a picture from elsewhere.
  pictures = {name.rpartition(":")[2]: find(name) for name in only or names()}
  out.mkdir(parents=True, exist_ok=True)
  document = _read(out / FILE, subject.protocol())
  for name, draw in pictures.items():
    path = out / f"{name}.png"
    document["pictures"].pop(name, None)
    document["left_out"].pop(name, None)
    try:
      text, numbers = draw(subject, path)
      document["pictures"][name] = numbers
    except errors.UserError as error:
      path.unlink(missing_ok=True)  # That of another step would mislead.
      text = str(error)
      path = None
      document["left_out"][name] = text
    files.write_json(out / FILE, document)
    yield Outcome(name, text, path)


def _read(path: pathlib.Path, protocol: Numbers) -> Numbers:
  """Returns the document at `path`, or a new one.

  It is a new one if the file is of another protocol, of another version, or
  damaged: numbers of different samples must not stand side by side.
  """
  fresh = {"protocol": protocol, "pictures": {}, "left_out": {}}
  try:
    document = json.loads(path.read_text())
    same = document["protocol"] == json.loads(json.dumps(protocol))
    return document if same and document.keys() == fresh.keys() else fresh
  except (OSError, ValueError, KeyError, TypeError):
    return fresh
