"""Nets from outside of ganjax: registered, or named by module and class."""

import textwrap

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from ganjax import errors, nets, registry
from ganjax.nets import dcgan
from ganjax.nets.judged import Judged

SHAPE = (4, 4, 1)
MY_NETS = """
  import flax.linen as nn
  import jax.numpy as jnp

  class Generator(nn.Module):
    image_shape: tuple
    depth: int
    width: int = 4

    @nn.compact
    def __call__(self, z, labels=None, train=True):
      for _ in range(self.depth):
        z = nn.relu(nn.Dense(self.width)(z))
      x = nn.Dense(self.image_shape[0] * self.image_shape[1])(z)
      return x.reshape(-1, *self.image_shape)

  class Discriminator(nn.Module):
    @nn.compact
    def __call__(self, images, labels=None, train=True):
      return nn.Dense(1)(images.reshape(len(images), -1))[:, 0]

  def wide_generator(image_shape, num_classes, depth=1):
    assert num_classes == 3
    return Generator(image_shape, depth=depth, width=9)

  NUMBER = 3

  def no_net():
    return NUMBER
"""


@pytest.fixture
def my_nets(tmp_path):
  path = tmp_path / "my_nets.py"
  path.write_text(textwrap.dedent(MY_NETS))
  return str(path)


@pytest.fixture
def registered(monkeypatch):
  """Puts the registry back as it was."""
  before = dict(nets.NETS)
  yield
  nets.NETS.clear()
  nets.NETS.update(before)


def run(net, x):
  return jax.jit(net.init_with_output)(jax.random.key(0), x)


def test_a_class_of_a_file(my_nets):
  g = nets.get(f"{my_nets}:Generator", "generator", SHAPE, 3, depth=2)
  images, variables = run(g, jnp.zeros((2, 5)))
  assert images.shape == (2, *SHAPE)
  assert len(variables["params"]) == 3
  # This one wants to know neither the shape of the images nor the classes.
  d = nets.get(f"{my_nets}:Discriminator", "discriminator", SHAPE, 3)
  output, _ = run(d, jnp.zeros((2, *SHAPE)))
  judged = Judged.of(output)
  assert judged.logits.shape == (2,) and judged.features is None
  # A function that makes a module will do, too.
  wide = nets.get(f"{my_nets}:wide_generator", "decoder", SHAPE, 3, depth=1)
  _, variables = run(wide, jnp.zeros((2, 5)))
  assert variables["params"]["Dense_0"]["kernel"].shape == (5, 9)
  # What another process needs to import is the file.
  assert registry.origin(type(g)) == my_nets


def test_a_class_of_a_module():
  net = nets.get("ganjax.nets.dcgan:Encoder", "encoder", (8, 8, 1), outputs=2)
  assert isinstance(net, dcgan.Encoder) and net.image_shape == (8, 8, 1)


def test_what_cannot_be_built_is_said_in_one_line(my_nets):
  def fails(match, attribute, **fields):
    name = f"{my_nets}:{attribute}"
    with pytest.raises(errors.UserError, match=match) as caught:
      nets.get(name, "generator", SHAPE, 3, **fields)
    assert len(str(caught.value).splitlines()) == 1

  fails("'depth': set config.generator.depth", "Generator")
  fails("unknown field .* 'dept'; did you mean 'depth'", "Generator", dept=2)
  fails("did you mean 'Generator'", "Genrator")
  fails("is 3: name a Flax class", "NUMBER")
  fails("makes an object of type int: it has to be a Flax module", "no_net")
  with pytest.raises(errors.UserError, match="there is no file"):
    nets.find("no_such_file.py:Generator", "generator")
  with pytest.raises(errors.UserError, match="did you mean 'width'"):
    nets.get("dcgan", "generator", (8, 8, 1), widht=3)


def test_registered_nets(registered):
  @nets.register("my_net", role="generator")
  class MyGenerator(nn.Module):
    image_shape: tuple[int, ...]

    @nn.compact
    def __call__(self, z, labels=None, train=True):
      return jnp.zeros((len(z), *self.image_shape))

  assert "my_net" in nets.names()
  assert nets.find("my_net", "generator") is MyGenerator
  assert nets.find("my_net", "decoder") is MyGenerator
  assert isinstance(nets.get("my_net", "decoder", SHAPE), MyGenerator)
  with pytest.raises(errors.UserError, match="role of net 'my_net'.*generator"):
    nets.find("my_net", "discriminator")
  with pytest.raises(errors.UserError, match="did you mean 'my_net'"):
    nets.find("my_nett", "generator")
  with pytest.raises(errors.UserError, match="unknown role 'generater'"):
    nets.register("other", role="generater")

  @nets.register("my_net", role="discriminator")
  class MyDiscriminator(nn.Module):
    pass

  assert nets.find("my_net", "generator") is MyGenerator
  assert nets.find("my_net", "discriminator") is MyDiscriminator


def test_a_role_more_for_a_net_of_ganjax(registered):
  before = nets.names()

  @nets.register("cnn", role="encoder")
  class Encoder(nn.Module):
    pass

  assert nets.find("cnn", "encoder") is Encoder
  assert nets.find("cnn", "generator").__module__ == "ganjax.nets.cnn"
  assert nets.names() == before


def test_names_are_the_files_of_the_package():
  assert nets.names() == [
    "biggan",
    "cnn",
    "cnn2014",
    "dcgan",
    "mlp",
    "r3gan",
    "resnet",
    "sagan",
  ]
  for name in nets.names():
    for role in "generator", "discriminator":
      found = nets.find(name, role)
      assert found.__name__.lower() == role
      assert "axis_name" not in found.__dataclass_fields__
