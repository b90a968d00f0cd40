PYTHON ?= python3
# Both ends of what is supported: Colab's TPU image, and the newest release.
PYTHON_OLD ?= python3.13
PYTHON_NEW ?= python3.13
OLD = jax==0.7.2 flax==0.11.2 orbax-checkpoint==0.12.4

.PHONY: test slow soak clusters targets lint format docs smoke compat clean

test:  ## the whole suite, as README says
	$(PYTHON) -m pytest

slow:  ## what compiles for long: smoke forms, devices and resumes of the systems
	$(PYTHON) -m pytest -m slow --dist load

soak:  ## a run that is killed 200 times ends as the unbroken one
	$(PYTHON) -m pytest -m soak -n 0 -s

clusters:  ## tables of runs on a Ray cluster and by submitit, started here
	$(PYTHON) -m pip install -q -e '.[ray,slurm]'
	$(PYTHON) -m pytest -m cluster -n 0

targets:  ## steps compiled for TPUs, of which none is needed; wants .[tpu]
	$(PYTHON) -m pytest -m targets -n 0

lint:  ## ruff and pyright, as CI runs them
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m pyright --pythonpath "$$($(PYTHON) -c 'import sys; print(sys.executable)')"

format:
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

docs:  ## pages from docstrings and WORKSPACE.md: build/docs/index.html
	$(PYTHON) -m pip install -q -e '.[docs]'
	$(PYTHON) -m pdoc -d google --no-show-source -o build/docs ganjax
	cp -r docs CONTRIBUTING.md build/docs  # The map links to them.

smoke:  ## two steps of the default experiment
	$(PYTHON) -m ganjax.main --config digits_dcgan:smoke --workdir "$$(mktemp -d)"

compat:  ## the tests in fresh environments at both ends
	rm -rf build/compat
	$(PYTHON_OLD) -m venv build/compat/old
	build/compat/old/bin/pip install -q -e '.[test]' $(OLD)
	build/compat/old/bin/python -m pytest
	$(PYTHON_NEW) -m venv build/compat/new
	build/compat/new/bin/pip install -q -e '.[test]'
	build/compat/new/bin/python -m pytest

clean:
	rm -rf build *.egg-info .pytest_cache .ruff_cache
