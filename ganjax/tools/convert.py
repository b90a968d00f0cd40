"""Converts published weights: `python -m ganjax.convert FILE --out NPZ`."""

import argparse
import pathlib
import sys

_DESCRIPTION = """\
Converts the published weights of an extractor to the .npz that ganjax reads.
Nothing is downloaded, and neither PyTorch nor TensorFlow is needed. FILE is

  for inception  pt_inception-2015-12-05-6726825d.pth, or TensorFlow's
                 classify_image_graph_def.pb or the .tgz that it came in
  for dinov2     dinov2_vitl14_pretrain.pth, or that of vitb14 or vits14"""

_EXAMPLES = """\
examples:
  python -m ganjax.convert pt_inception-2015-12-05-6726825d.pth --out fid.npz
  python -m ganjax.convert dinov2_vitl14_pretrain.pth --kind dinov2 \\
    --out dinov2.npz
then:
  export GANJAX_INCEPTION=fid.npz GANJAX_DINOV2=dinov2.npz
"""


def main(argv: list[str] | None = None) -> int:
  """Runs the command line; returns the exit code."""
  parser = argparse.ArgumentParser(
    prog="python -m ganjax.convert",
    description=_DESCRIPTION,
    epilog=_EXAMPLES,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  add = parser.add_argument
  add("source", type=pathlib.Path, metavar="FILE", help="the published file")
  add("--out", type=pathlib.Path, required=True, help="the .npz to write")
  add("--kind", default="inception", help="inception (the default) or dinov2")
  add(
    "--digest",
    default="",
    metavar="HEX",
    help="SHA-256 that FILE must have (that of a published state_dict)",
  )
  args = parser.parse_args(argv)
  # Only now, so that --help answers at once.
  from ganjax import errors
  from ganjax.evaluation import convert

  try:
    made = convert.convert(args.source, args.out, args.kind, args.digest)
  except errors.UserError as error:
    print(f"error: {error}", file=sys.stderr)
    return 2
  print(f"{args.out}: {made['kind']}, digest of parameters {made['digest']}")
  if not made["verified"]:
    print(
      "the source was not checked: no digest of it is published. The same "
      "weights from the .pth have the same digest of parameters."
    )
  return 0


if __name__ == "__main__":
  sys.exit(main())
