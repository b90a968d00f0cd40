"""Modes of Stacked MNIST: which GANs find all 1,000.

R3GAN's setting is that of its table (Huang et al. 2025,
https://arxiv.org/abs/2501.05441): 10 million images, the burn-in over the
first two, batches of 512. DCGAN and PacGAN (Lin et al. 2018,
https://arxiv.org/abs/1712.04086) are plain settings of ours, 50,000 steps of
64 logits; no number of their papers is known to us from more than memory. Not
here: StyleGAN2 (940, .42), DDGAN (1000, .071), MEG (1000, .031). For GPUs.

`small` stacks scikit-learn's digits of 16 pixels for the nets of `digits_dcgan`
and has no paper's numbers: a quarter of an hour of two cores a row.
"""

# One of 25,600 samples is enough for a mode, as the papers count.
COUNT = {"evals.classes.num_samples": 25_600, "evals.classes.share": 0.0}
STACKED = {"dataset.name": "stacked_mnist", "extractor.name": "stacked"} | COUNT
DATA = STACKED | {"dataset.pad": 2}
PLAIN = DATA | {"num_steps": 50_000, "generator.output_bias": True}
BATCH_SIZE = 512
IMAGES, BURN_IN = 10_000_000, 2_000_000


def cosine(key: str, init_value: float, end_value: float) -> dict:
  """Returns the overrides of a number that changes over the burn-in."""
  return {
    f"{key}.init_value": init_value,
    f"{key}.end_value": end_value,
    f"{key}.decay_steps": BURN_IN / BATCH_SIZE,
  }


R3GAN = DATA | {"num_steps": IMAGES // BATCH_SIZE, "augment.name": "none"}
R3GAN |= {"generator.conditional": False, "discriminator.conditional": False}
R3GAN |= cosine("ema.half_life", 0.0, 0.5e6)
for penalty in "r1", "r2":
  R3GAN |= cosine(f"penalties.{penalty}.gamma", 1.0, 0.1)
for player in "g_opt", "d_opt":
  R3GAN |= cosine(f"{player}.learning_rate", 2e-4, 2e-4)
  R3GAN |= cosine(f"{player}.b2", 0.9, 0.99)

SMALL = STACKED | {"dataset.source": "digits", "dataset.size": 16}
SMALL |= {"num_steps": 10_000, "evals.frechet.every": 10_000}
SMALL |= {"evals.classes.every": 2500, "checkpoint.best": "class_kl"}
SMALL |= {"checkpoint.every": 2500, "samples.every": 1000}
PACK = {"discriminator.pack": 2, "batch_size": 128}
PAIRING = {"loss.relativism": "pairing", "penalties.r1.gamma": 1.0}
PAIRING |= {"penalties.r2.gamma": 1.0}


def get_table(arg: str = "") -> dict:
  """Returns the table, or that of digits if `small`."""
  if arg == "small":
    return small()
  rows = [
    dict(label="DCGAN", experiment="cifar_dcgan", overrides=PLAIN),
    dict(label="PacDCGAN2", experiment="cifar_dcgan", overrides=PLAIN | PACK),
    dict(
      label="R3GAN",
      experiment="cifar_r3gan",
      overrides=R3GAN,
      paper={"modes, paper": 1000, "KL, paper": 0.029},
    ),
  ]
  table = dict(
    title="Modes of Stacked MNIST",
    source="Huang et al. 2025, arXiv 2501.05441, the table of Stacked MNIST",
    seeds=(0, 1, 2),
    values=("classes_covered", "class_kl"),
    paper={
      "modes, paper": "arXiv 2501.05441, of 1,000",
      "KL, paper": "arXiv 2501.05441, nats",
    },
    rows=rows,
  )
  return {"": table}[arg]


def small() -> dict:
  """Returns the table of stacked digits."""
  rows = {"DCGAN": {}, "PacDCGAN2": PACK, "DCGAN, pairing + R1 + R2": PAIRING}
  return dict(
    title="Modes of stacked digits of 16 pixels",
    source="Settings of ours; the data are made as those of Metz et al. 2017, "
    "arXiv 1611.02163, section 3.3.1",
    seeds=(0, 1, 2),
    values=("classes_covered", "class_kl"),
    rows=[
      dict(label=k, experiment="digits_dcgan", overrides=SMALL | v)
      for k, v in rows.items()
    ],
  )
