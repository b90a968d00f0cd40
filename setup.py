"""What is installed; all else that pip needs to know is in setup.cfg."""

import setuptools

PACKAGES = setuptools.find_packages(include=["ganjax", "ganjax.*"])

setuptools.setup(
  # The experiments lie beside the package, for people to read and copy, and
  # are installed within it, so that their names work from any folder.
  packages=[*PACKAGES, "ganjax.experiments", "ganjax.experiments.tables"],
  package_dir={"ganjax.experiments": "experiments"},
  # What the page of `ganjax compare` is made of.
  package_data={"ganjax.tools.compare": ["web/*"]},
)
