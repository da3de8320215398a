# `make demo` compares the backends; `make test` runs the tests. Both first set up .venv with all three frameworks.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint pretrained set-up clean

demo: set-up
	$(BIN)/rosetta bench

test: set-up
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

lint: set-up
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The trained run that is bundled. The first rate is eight times the example's; README says why.
pretrained: set-up
	rm -rf runs/pretrained
	$(BIN)/rosetta train --out runs/pretrained --backend torch --split grouped --batch-size 32 --learning-rate 8e-3 --epochs 50
	$(BIN)/rosetta train --out runs/pretrained --resume --learning-rate 1e-3 --epochs 55
	rm -rf common/phrasebook/run
	$(BIN)/rosetta convert runs/pretrained --to weights --out common/phrasebook/run

set-up: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or later is needed; $(PYTHON) is older. Try: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable ".[all,dev]"
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
