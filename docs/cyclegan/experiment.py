"""Digits to their negatives, by a CycleGAN: see README.md beside this file."""

import cyclegan  # noqa: F401  It lies beside this file, and registers.


def get_config(arg: str = ""):
  """Returns the config; `smoke` is two steps of a tiny one."""
  small = arg == "smoke"
  generator = dict(name="translator", width=4 if small else 32)
  discriminator = dict(name="dcgan", width=4 if small else 32, norm="none")
  adam = dict(name="adam", learning_rate=2e-4, b1=0.5)
  return dict(
    num_steps=2 if small else 2000,
    batch_size=8 if small else 32,
    system=dict(name="cyclegan"),
    dataset=dict(name="digits_and_negatives"),
    generator_ab=generator,
    generator_ba=generator,
    discriminator_a=discriminator,
    discriminator_b=discriminator,
    loss=dict(name="least_squares"),
    g_opt=adam,
    d_opt=adam,
    samples=dict(every=500, num=16),
  )
