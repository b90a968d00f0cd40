"""Relativistic losses on CIFAR-10, the stable settings of the paper.

Jolicoeur-Martineau 2018 (https://arxiv.org/abs/1807.00734): ten losses with
one update of D (Adam, 2e-4, .5 / .999), nine with five (1e-4, .5 / .9), which
has no RaSGAN-GP. 57 runs of 100,000 steps: for GPUs. Of the paper's numbers
only four are known to us from more than memory, of the second setting none.
"""

PENALTY = {"penalties.gradient_penalty.weight": 10.0}
FIVE = {"d_steps_per_g_step": 5}
FIVE |= {
  f"{player}.{key}": value
  for player in ("g_opt", "d_opt")
  for key, value in (("learning_rate", 1e-4), ("b2", 0.9))
}
PAPER, CHALLENGE = "FID, paper", "FID, ICLR 2019 challenge"
# Label: name, relativism, with a penalty, the paper's and the challenge's FID.
LOSSES = {
  "SGAN": ("non_saturating", "none", False, None, 40.31),
  "RSGAN": ("non_saturating", "pairing", False, 36.61, 32.55),
  "RaSGAN": ("non_saturating", "average", False, 31.98, 52.16),
  "LSGAN": ("least_squares", "none", False, None, 52.05),
  "RaLSGAN": ("least_squares", "average", False, None, 91.97),
  "HingeGAN": ("hinge", "none", False, None, None),
  "RaHingeGAN": ("hinge", "average", False, None, None),
  "WGAN-GP": ("wasserstein", "none", True, None, 36.34),
  "RSGAN-GP": ("non_saturating", "pairing", True, 25.60, 23.97),
  "RaSGAN-GP": ("non_saturating", "average", True, 331.86, 24.69),
}


def overrides(loss: str) -> dict:
  """Returns what a loss changes of the experiment."""
  name, relativism, penalised, *_ = LOSSES[loss]
  changes = {"loss.name": name, "loss.relativism": relativism}
  return changes | PENALTY if penalised else changes


def get_table(arg: str = "") -> dict:
  """Returns the table; it knows no argument."""
  rows = []
  for loss, (*_, paper, challenge) in LOSSES.items():
    numbers = {PAPER: paper, CHALLENGE: challenge}
    rows.append(
      dict(
        label=f"{loss}, one D update",
        experiment="cifar_rsgan",
        overrides=overrides(loss),
        paper={k: v for k, v in numbers.items() if v is not None},
      )
    )
  rows += [
    dict(
      label=f"{loss}, five D updates",
      experiment="cifar_rsgan",
      overrides=overrides(loss) | FIVE,
    )
    for loss in LOSSES
    if loss != "RaSGAN-GP"
  ]
  table = dict(
    title="Relativistic losses on CIFAR-10, stable settings",
    source="Jolicoeur-Martineau 2018, arXiv 1807.00734, the table of stable "
    "settings; ours in the features of a classifier, the papers' of Inception",
    seeds=(0, 1, 2),
    values=("frechet", "classes_covered"),
    paper={
      PAPER: "arXiv 1807.00734, one seed, at 100,000 steps; 50,000 samples "
      "against the training images",
      CHALLENGE: "reproduction by Tang (LoSealL) with spectral norm; batches "
      "of 64, 100,000 updates of D, 10,000 samples against 10,000 test images",
    },
    rows=rows,
  )
  return {"": table}[arg]
