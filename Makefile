# make demo [AUDIO=dir]   recordings -> shards -> a trained HVAE -> a page to hear it by
# make test               style and all tests but the slow ones
# make test-all           the slow ones too: runs under attack, and what befalls jobs on a Slurm
# make bench [QUICK=1]    speed and shuffling beside other libraries -> a table and bench.json
# make chaos [KILLS=100]  a tiny run killed that often: was anything lost? (SEED=0, JSON=file)
# make quality [QUICK=1]  the claims about quality: models, baselines and seeds trained side by side (FOLDER=, JSON=)
# make slurm-test         the batch scripts on a private Slurm; needs: apt-get install slurmctld slurmd slurm-client
# make lint               style only
# The first use of any of them makes .venv.

PYTHON ?= python3
BIN := .venv/bin
# Results of the demo: practice recordings and one's own do not mix.
OUT ?= demo/$(if $(AUDIO),own,practice)
STEPS ?= 600
# Attacks of make chaos, and the seed of their plan.
KILLS ?= 100
SEED ?= 0
# Tests that run at once: one more than there are cores, as many of them wait.
WORKERS ?= $(shell $(BIN)/python -c 'import os; print(min(8, os.cpu_count() + 1))')
# One process a GPU, two where there is none.
PROCESSES ?= $(shell $(BIN)/python -c 'import torch; print(torch.cuda.device_count() or 2)')

.PHONY: demo test test-all slurm-test bench chaos quality lint clean-demo
.DELETE_ON_ERROR:

# uv installs in seconds where pip takes minutes; either gives the versions of constraints.txt.
.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than Python 3.11; name a newer one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv
	@if command -v uv >/dev/null; then \
	  uv pip install --python $(BIN)/python -c constraints.txt -e '.[test]'; \
	else \
	  $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[test]'; \
	fi
	@touch $@

demo: .venv/installed
ifeq ($(AUDIO),)
	$(BIN)/python -m shards practice $(OUT)/audio
endif
	$(BIN)/python -m shards build $(if $(AUDIO),'$(AUDIO)',$(OUT)/audio) $(OUT)/shards
	$(BIN)/accelerate launch --config_file accelerate_config.yaml --num_processes $(PROCESSES) -m train hvae \
	  --config train/configs/hvae_tiny.yaml --data $(OUT)/shards --run-dir $(OUT)/hvae --optim.steps $(STEPS) \
	  --kl_warmup.steps 200 --checkpoint.every 100 --tracking.evaluate_every 200
	$(BIN)/python -m train evaluate $(OUT)/hvae

test: lint
	$(BIN)/python -m pytest -n $(WORKERS) -m 'not slow'

test-all: lint
	$(BIN)/python -m pytest -n $(WORKERS)

slurm-test: .venv/installed
	$(BIN)/python -m pytest tests/slurm

# mosaicml-streaming says that it needs numpy < 2.2, transformers < 5 and xxhash < 4. What is measured works without.
.venv/bench: .venv/installed
	@if command -v uv >/dev/null; then \
	  uv pip install --python $(BIN)/python -c constraints.txt -e '.[test,bench]'; \
	  uv pip install --python $(BIN)/python --no-deps mosaicml-streaming==0.13.0; \
	else \
	  $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[test,bench]'; \
	  $(BIN)/python -m pip install --disable-pip-version-check --no-deps mosaicml-streaming==0.13.0; \
	fi
	@touch $@

bench: .venv/bench
	$(BIN)/python -m benchmarks speed $(PARTS) $(if $(QUICK),--quick)

chaos: .venv/installed
	$(BIN)/python -m benchmarks faults --kills $(KILLS) --seed $(SEED) $(if $(JSON),--json $(JSON))

quality: .venv/installed
	$(BIN)/python -m benchmarks quality $(if $(QUICK),--quick) $(if $(FOLDER),--folder $(FOLDER)) $(if $(JSON),--json $(JSON))

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean-demo:
	rm -rf demo
