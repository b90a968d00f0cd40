"""Converts published weights: `ganjax convert FILE --out NPZ`."""

import argparse
import pathlib

DESCRIPTION = """\
Converts the published weights of an extractor to the .npz that ganjax reads.
Nothing is downloaded, and neither PyTorch nor TensorFlow is needed. FILE is

  for inception  pt_inception-2015-12-05-6726825d.pth, or TensorFlow's
                 classify_image_graph_def.pb or the .tgz that it came in
  for dinov2     dinov2_vitl14_pretrain.pth, or that of vitb14 or vits14"""

EXAMPLES = """\
examples:
  ganjax convert pt_inception-2015-12-05-6726825d.pth --out fid.npz
  ganjax convert dinov2_vitl14_pretrain.pth --kind dinov2 --out dinov2.npz
then:
  export GANJAX_INCEPTION=fid.npz GANJAX_DINOV2=dinov2.npz
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the command line; see `ganjax.tools`."""
  parser.description = DESCRIPTION
  parser.epilog = EXAMPLES
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


def run(args: argparse.Namespace) -> None:
  """Converts the file, and says what it held.

  Raises:
    UserError: the file is not what it should be.
    OSError: a file cannot be read or written.
  """
  from ganjax.evaluation import convert

  made = convert.convert(args.source, args.out, args.kind, args.digest)
  print(f"{args.out}: {made['kind']}, digest of parameters {made['digest']}")
  if not made["verified"]:
    print(
      "the source was not checked: no digest of it is published. The same "
      "weights from the .pth have the same digest of parameters."
    )
