# Two commands do everything, set-up included: `make demo` and `make test`.
PYTHON ?= python3
CONSTRAINTS ?= constraints.txt
BIN := .venv/bin
SHOWN = $(if $(QUICK),--out out/experiments)
EXPERIMENTS = --scale $(if $(QUICK),quick,$(or $(SCALE),full)) --jobs $(or $(JOBS),1) $(SHOWN) \
	$(if $(DATA),--data $(DATA)) $(if $(PHOTOS),--photos $(PHOTOS))

.DEFAULT_GOAL := help
.PHONY: help demo test lint conformance gradcheck bench weights camera-weights quality camera experiments reliability \
	fuzz nightly notebook book docs readme report wheel submission clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

demo: .venv/installed  ## install, train for a minute, evaluate the shipped weights, write a picture (2 minutes)
	GOMP_SPINCOUNT=1000 $(BIN)/python examples/demo.py

test: .venv/installed lint  ## install, check style and types, run all tests and test.py (10 minutes on two cores)
	$(BIN)/python -m pytest -n auto
	$(BIN)/python test.py

lint: .venv/installed  ## check the style and the types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml

conformance: .venv/installed  ## run PyTorch's own test inputs against the blocks, write docs/results/conformance.md
	$(BIN)/python benchmarks/conformance.py

book: .venv/installed  ## draw the pictures of docs/ and run the examples of its chapters
	$(BIN)/python docs/pictures.py
	$(BIN)/python -m pytest tests/test_book.py

readme: .venv/installed  ## write the measured figures into README and model card; fails where they differed
	$(BIN)/python docs/facts.py

docs: .venv/installed  ## write the reference of the package from its docstrings: out/api/noise2noise.html
	$(BIN)/python docs/api.py
	@echo "open out/api/noise2noise.html"

gradcheck: .venv/installed  ## check every block's gradients numerically
	$(BIN)/python -m others.nn.gradcheck

bench: .venv/installed  ## time steps and predictions against torch.nn, write docs/results/speed.md and docs/speed.png (20 minutes)
	$(BIN)/python benchmarks/speed.py --out docs/results/speed.md --figure docs/speed.png

weights: out/prescribed.pth out/rednet.pth  ## train weights for the course's noise: make weights PHOTOS=folder [VAL=val_data.pkl] [PRECISION=fp32] (3 hours; goes on if stopped)

camera-weights: out/camera.pth  ## train the weights for photographs: make camera-weights PHOTOS="folder folder" (3 hours, one core; goes on if stopped)

out/prescribed.pth out/rednet.pth: COURSE = --holdout 20 --balance 0.5 $(if $(VAL),--val $(VAL))
out/prescribed.pth: TRAINING = $(COURSE) --epochs 8 --gaussian 0.2 --arguments "{'channels': (384, 256)}"
out/rednet.pth: TRAINING = $(COURSE) --epochs 11 --gaussian 0.05 \
	--arguments "{'layers': ((64, 3, 1), (96, 3, 1), (128, 3, 2), (256, 3, 2), (256, 3, 2))}"
out/camera.pth: TRAINING = --holdout 60 --balance 0.7 --epochs 48

out/%.pth: | .venv/installed
	mkdir -p out
	$(BIN)/python benchmarks/train_weights.py $* --photos $(PHOTOS) --targets 16 --clip 1 --threads 1 --seed 0 \
		--precision $(or $(PRECISION),bf16) $(TRAINING) --out out/$*-unfinished.pth --resume
	mv out/$*-unfinished.pth $@

quality: .venv/installed  ## measure the shipped weights, write docs/results/quality.md and out/gains.png: make quality PHOTOS=folder DATA=folder
	mkdir -p out
	$(BIN)/python benchmarks/quality.py --photos $(PHOTOS) --data $(DATA) --out docs/results/quality.md --picture out/gains.png

camera: .venv/installed  ## measure the camera weights beside filters, write docs/results/camera.md and noise.md: make camera PHOTOS=folder (an hour)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e ".[filters]"
	$(BIN)/python benchmarks/camera.py --photos $(PHOTOS) --out docs/results/camera.md --picture out/camera.png
	$(BIN)/python benchmarks/noise_check.py --photos $(PHOTOS) --out docs/results/noise.md

experiments: .venv/installed  ## run all experiments, draw tables and figures: [QUICK=1 | SCALE=small] [DATA=folder] [PHOTOS=folder] [JOBS=2] (days; SCALE=medium hours)
	$(BIN)/python -m experiments.run $(EXPERIMENTS)
	$(BIN)/python -m experiments.show $(SHOWN)

reliability: .venv/installed  ## kill, flip, truncate, fuzz and soak at full length, write docs/results/reliability.md (3 hours; goes on if stopped)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e ".[fuzz]"
	$(BIN)/python benchmarks/reliability.py

fuzz: .venv/installed  ## fuzz the readers of checkpoints, pairs and pictures for 10 minutes, guided by coverage
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e ".[fuzz]"
	$(BIN)/python tests/fuzz/readers.py out/corpus -max_total_time=600 -rss_limit_mb=3000 -timeout=30

nightly: .venv/installed  ## 10,000 new random examples for each property of blocks, kernels and the command line (2 hours)
	$(BIN)/python benchmarks/reliability.py --fresh properties

notebook: .venv/installed  ## run examples/noise2noise.ipynb and keep its outputs
	$(BIN)/python examples/execute_notebook.py

report: .venv/installed  ## typeset Miniproject_2/Report_2.pdf from the logs
	$(BIN)/python -m experiments.report.build

wheel: .venv/installed  ## build the wheel and the source archive into dist/
	$(BIN)/python -m build

submission: .venv/installed  ## make submission SCIPERS="111111 222222 333333": the course's zip, tested before it is ready
	mkdir -p out
	$(BIN)/python -m experiments.report.build --out out/Report_2.pdf --scipers $(SCIPERS)
	$(BIN)/python examples/make_submission.py --report out/Report_2.pdf $(SCIPERS)

clean:  ## remove what the other targets made
	rm -rf .venv out build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

.venv/installed: pyproject.toml constraints.txt
	@echo "Installing into .venv: torch and the tools ..."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e ".[dev]"
	@touch $@
