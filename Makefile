# `make demo` compares the backends; `make test` runs the tests; `make wild` compares models of other projects. All first
# set up .venv with all four frameworks.
# After a change of the dependencies in pyproject.toml: `make lock`, and `make lock UPGRADE=--upgrade` for newer versions.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCKS := requirements/dev.lock requirements/torch.txt
KIND := import sysconfig; print(sysconfig.get_python_version(), sysconfig.get_platform())
CHECK_PYTHON = $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo "Python 3.11 or later is needed; $(PYTHON) is older or does not start. Try: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 2; }
INSTALL := $(BIN)/pip install --quiet

# Python keeps what it compiled, or each of some hundred processes that tests start would compile Rosetta again.
unexport PYTHONDONTWRITEBYTECODE

AT_LENGTH := $(addprefix tests/,$(addprefix frameworks/test_,parity.py profiling.py all_frameworks.py group.py models.py \
	further_models.py native.py) $(addprefix cli/test_,runs.py bench.py vary.py) \
	$(addprefix docs/test_,tutorial.py phrasebook.py))

.PHONY: demo test nightly wild needs check format site pages lint pretrained lock set-up clean

demo: set-up
	$(BIN)/rosetta bench

test: needs
	$(BIN)/python -m pytest --numprocesses 2 --dist loadgroup --timeout 120
	cd porting && ../$(BIN)/python -m pytest --numprocesses 2 --dist loadgroup --timeout 120

nightly: set-up # attacks by hostile input, and what takes long
	$(BIN)/python -m pytest tests/nightly --numprocesses 2 --timeout 600 -rA
	$(BIN)/rosetta parity
	ROSETTA_AT_LENGTH=1 $(BIN)/python -m pytest $(AT_LENGTH) --timeout 600
	cd porting && ROSETTA_AT_LENGTH=1 ../$(BIN)/python -m pytest porting_tests/test_pairs.py porting_tests/test_keras_on_torch.py
	cd porting && ../$(BIN)/python -m porting_tests.support.flax_at_length
	cd porting && ../$(BIN)/python -m porting_tests.support.mistakes
	cd porting && ../$(BIN)/python -m porting_tests.support.replays
	cd porting && ../$(BIN)/python -m porting_tests.support.pairs 50

wild: set-up porting/.wild/.installed # other projects' models, compared; writes porting/wild/in_the_wild.md
	cd porting && ../$(BIN)/python -m wild

porting/.wild/.installed: porting/wild/requirements.txt
	rm -rf porting/.wild
	$(INSTALL) --no-deps --target porting/.wild --requirement $<
	@touch $@

needs: set-up # a browser for the tests
	@$(BIN)/python -m tests.support.needs

check: lint # before each commit; in under a minute
	$(BIN)/python -m pytest tests/unit -m "not starts" --numprocesses 2 --quiet
	cd porting && ../$(BIN)/python -m pytest -m "not starts" --numprocesses 2 --quiet

format: set-up
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

site: set-up # static pages in site/, which begin with site/index.html
	$(BIN)/python docs/render_site.py

lint: set-up
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The committed measurements, made anew on this machine, which should be idle, in an hour; and their pages.
# ROSETTA_FRA may name a file of fra-eng, where manythings.org cannot be reached.
pages: set-up
	rm -f docs/benchmark/*.jsonl
	for number in 1 2 3 4 5 6 7 8; do $(BIN)/rosetta bench --out docs/benchmark/demo-$$number.jsonl || exit; done
	$(BIN)/rosetta bench --out docs/benchmark/fra-eng.jsonl --data "$${ROSETTA_FRA:-fra-eng}"
	for model in lstm attention; do $(BIN)/rosetta bench --model $$model --out docs/benchmark/$$model.jsonl || exit; done
	$(BIN)/rosetta bench --model transformer --budget 12m --out docs/benchmark/transformer.jsonl
	$(BIN)/python docs/benchmark/render.py docs/benchmark/fra-eng.jsonl

# The trained run that is bundled. The first rate is eight times the example's; docs/phrasebook/README.md says why.
pretrained: set-up
	rm -rf runs/pretrained
	$(BIN)/rosetta train --out runs/pretrained --backend torch --split grouped --batch-size 32 --learning-rate 8e-3 --epochs 82
	$(BIN)/rosetta train --out runs/pretrained --resume --learning-rate 2e-3 --epochs 98
	$(BIN)/rosetta train --out runs/pretrained --resume --learning-rate 5e-4 --epochs 106
	rm -rf common/phrasebook/run
	$(BIN)/rosetta convert runs/pretrained --to weights --out common/phrasebook/run

lock: set-up
	$(BIN)/python -m requirements.lock $(UPGRADE)
	$(MAKE) set-up

set-up: $(VENV)/.installed

# The locks are for Python 3.11 on Linux x86-64; elsewhere what pyproject.toml allows is installed, without hashes.
# PyTorch's own index has the CPU build. PyPI's build of the same version brings the libraries of CUDA.
$(VENV)/.installed: pyproject.toml porting/pyproject.toml $(LOCKS)
	@$(CHECK_PYTHON)
	$(PYTHON) -m venv $(VENV)
	@echo "Installing Rosetta, its tests and all four frameworks into $(VENV); this takes a minute or two"
	@if [ "$$($(BIN)/python -c '$(KIND)')" = "3.11 linux-x86_64" ]; then \
		$(INSTALL) --require-hashes --only-binary :all: -r requirements/dev.lock && \
		{ $(INSTALL) --retries 2 --index-url https://download.pytorch.org/whl/cpu -r requirements/torch.txt || \
			{ echo "PyTorch's CPU build cannot be had; its build with CUDA, 3 GB, is installed instead"; \
			$(INSTALL) -r requirements/torch.txt; }; } && \
		$(INSTALL) --no-deps --no-build-isolation --editable . --editable ./porting; \
	else \
		$(INSTALL) --editable ".[all,dev]" --editable ./porting; \
	fi
	@touch $@

clean:
	rm -rf $(VENV) site build *.egg-info porting/.wild porting/build porting/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
