"""Modes of Stacked MNIST: which GANs find all 1,000.

R3GAN's setting is that of its table (Huang et al. 2025,
https://arxiv.org/abs/2501.05441): 10 million images, the burn-in over the
first two, batches of 512. DCGAN and PacGAN (Lin et al. 2018,
https://arxiv.org/abs/1712.04086) are plain settings of ours, 50,000 steps of
64 logits; no number of their papers is known to us from more than memory. Not
here: StyleGAN2 (940, .42), DDGAN (1000, .071), MEG (1000, .031). For GPUs.
"""

DATA = {"dataset.name": "stacked_mnist", "dataset.pad": 2}
DATA |= {"extractor.name": "stacked", "evals.classes.num_samples": 25_600}
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


def get_table(arg: str = "") -> dict:
  """Returns the table; it knows no argument."""
  pack = {"discriminator.pack": 2, "batch_size": 128}
  rows = [
    dict(label="DCGAN", experiment="cifar_dcgan", overrides=PLAIN),
    dict(label="PacDCGAN2", experiment="cifar_dcgan", overrides=PLAIN | pack),
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
