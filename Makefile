# Two commands do everything, set-up included: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
WEIGHTS = --photos $(PHOTOS) $(if $(VAL),--val $(VAL)) --holdout 20 --threads 1 --out Miniproject_2/bestmodel.pth

.DEFAULT_GOAL := help
.PHONY: help demo test lint conformance gradcheck bench weights notebook wheel submission clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

demo: .venv/installed  ## install, train for a minute, evaluate the shipped weights, write a picture
	$(BIN)/python examples/demo.py

test: .venv/installed lint  ## install, check the style, run the whole test suite and test.py
	$(BIN)/python -m pytest
	$(BIN)/python test.py

lint: .venv/installed  ## check the style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

conformance: .venv/installed  ## run PyTorch's own test inputs against the blocks, write CONFORMANCE.md
	$(BIN)/python benchmarks/conformance.py

gradcheck: .venv/installed  ## check every block's gradients numerically
	$(BIN)/python -m others.nn.gradcheck

bench: .venv/installed  ## time training steps and predictions against torch.nn, write benchmarks/RESULTS.md
	$(BIN)/python benchmarks/speed.py --fresh --out benchmarks/RESULTS.md

weights: .venv/installed  ## train the shipped weights again: make weights PHOTOS=folder [VAL=val_data.pkl] (hours)
	$(BIN)/python benchmarks/train_weights.py prescribed $(WEIGHTS) --epochs 30 --lr 10 --clip 0.02 --batch-size 32
	$(BIN)/python benchmarks/train_weights.py rednet $(WEIGHTS) --epochs 20 --lr 4 --clip 0.01 --batch-size 32

notebook: .venv/installed  ## run notebooks/noise2noise.ipynb and keep its outputs
	$(BIN)/python notebooks/execute.py

wheel: .venv/installed  ## build the wheel and the source archive into dist/
	$(BIN)/python -m build

submission: .venv/installed  ## make submission SCIPERS="111111 222222 333333": the course's zip, tested before it is ready
	$(BIN)/python examples/make_submission.py $(SCIPERS)

clean:  ## remove what the other targets made
	rm -rf .venv out build dist *.egg-info .pytest_cache .ruff_cache .hypothesis

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@
