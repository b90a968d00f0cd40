"""Relativistic losses where training is hard: the unstable settings.

Jolicoeur-Martineau 2018 (https://arxiv.org/abs/1807.00734): eight losses with
a rate of .001, betas of .9 / .9, without batch norm, and with tanh for every
activation; batch norm in D, one update of it for one of G. Where not said
otherwise Adam has 1e-4 and .5 / .999, as in the author's scripts. 96 runs of
100,000 steps, for GPUs; no number of the paper's table is known to us from
more than memory.

`small` is the same on 1,797 digits of 16 pixels, with nets of a quarter of the
width and 2,000 steps, for two cores.
"""

# Label: name, relativism; WGAN-GP has a penalty, too.
LOSSES = {
  "SGAN": ("non_saturating", "none"),
  "RSGAN": ("non_saturating", "pairing"),
  "RaSGAN": ("non_saturating", "average"),
  "LSGAN": ("least_squares", "none"),
  "RaLSGAN": ("least_squares", "average"),
  "HingeGAN": ("hinge", "none"),
  "RaHingeGAN": ("hinge", "average"),
  "WGAN-GP": ("wasserstein", "none"),
}
PENALTY = {"penalties.gradient_penalty.weight": 10.0}
PLAYERS, NETS = ("g_opt", "d_opt"), ("generator", "discriminator")


def both(pair: tuple[str, str], key: str, value: object) -> dict:
  """Returns an override of both players' sections."""
  return {f"{section}.{key}": value for section in pair}


CONDITIONS = {
  "rate .001": both(PLAYERS, "learning_rate", 1e-3),
  "betas .9, .9": both(PLAYERS, "b1", 0.9) | both(PLAYERS, "b2", 0.9),
  "no batch norm": both(NETS, "norm", "none"),
  "tanh": both(NETS, "activation", "tanh"),
}
COMMON = both(PLAYERS, "learning_rate", 1e-4) | both(PLAYERS, "b1", 0.5)
COMMON |= both(PLAYERS, "b2", 0.999) | {"discriminator.norm": "batch"}
# What makes the author's setting of the digits' experiment.
SMALL = both(NETS, "name", "cnn") | both(NETS, "width", 16)
SMALL |= {"batch_size": 32, "num_steps": 2000, "ema.decay": 0.0}
SMALL |= {"system.statistics": "batch"}


def get_table(arg: str = "") -> dict:
  """Returns the table, or that for digits if `small`."""
  experiment, changes, data = {
    "": ("cifar_rsgan", {}, "CIFAR-10"),
    "small": ("digits_dcgan", SMALL, "digits of 16 pixels"),
  }[arg]
  rows = []
  for condition, changed in CONDITIONS.items():
    for loss, (name, relativism) in LOSSES.items():
      objective = {"loss.name": name, "loss.relativism": relativism}
      objective |= PENALTY if loss == "WGAN-GP" else {}
      rows.append(
        dict(
          label=f"{loss}, {condition}",
          experiment=experiment,
          overrides=changes | COMMON | objective | changed,
        )
      )
  return dict(
    title=f"Relativistic losses on {data}, unstable settings",
    source="Jolicoeur-Martineau 2018, arXiv 1807.00734, the table of unstable "
    "settings",
    seeds=(0, 1, 2),
    values=("frechet", "classes_covered"),
    rows=rows,
  )
