# make demo [AUDIO=dir]   recordings -> shards -> a trained HVAE -> a page to hear it by
# make song [AUDIO=dir]   recordings -> shards -> a trained autoencoder -> latents -> a prior -> a page with eight new pieces
# make test [SLOW=areas]  style and all tests but the slow ones; SLOW=slurm,gpu adds those areas of .ci/which-tests
# make test-all [NOTE=1]  the slow ones too: runs under attack, and what befalls jobs on a Slurm (NOTE=1 records the commit for CI)
# make bench [QUICK=1]    speed and shuffling beside other libraries -> a table and bench.json
# make chaos [KILLS=100]  a tiny run killed that often: was anything lost? (TARGET=mixture, SEED=0, JSON=file)
# make quality [QUICK=1]  the claims about quality: models, baselines and seeds trained side by side (FOLDER=, JSON=)
# make league [QUICK=1]   our trunk beside those of DAC, EnCodec, Oobleck and RAVE, and Opus (TRUNKS=, SECONDS=, FOLDER=, JSON=)
# make gpu                what only a GPU can answer, in minutes; goes on where it was cut (CPU=1, QUICK=1, PARTS=, DATA=)
# make slurm-test         the batch scripts on a private Slurm; needs: apt-get install slurmctld slurmd slurm-client
# make lint               style and types
# The first use of any of them makes .venv.

PYTHON ?= python3
BIN := .venv/bin
# Results of the demo: practice recordings and one's own do not mix.
OUT ?= demo/$(if $(AUDIO),own,practice)
demo: STEPS ?= 300
song: STEPS ?= 600
# Results of make song, the preset of its autoencoder, the steps of its prior, and the length of the music to practice on.
SONG ?= song/$(if $(AUDIO),own,practice)
MODEL ?= vae_mel_tiny
PRIOR_STEPS ?= 1200
PRACTICE_MINUTES ?= 30
# What make chaos attacks (autoencoder, mixture, prior or encode), how often, and the seed of the plan.
TARGET ?= autoencoder
KILLS ?= 100
SEED ?= 0
# Tests that run at once, one more than cores as tests wait too. One worker has the Slurm scenarios, which run beside
# each other themselves.
WORKERS ?= $(shell $(BIN)/python -c 'import os; print(max(2, min(8, os.cpu_count() + 1)))')
# One process a GPU, two where there is none.
PROCESSES ?= $(shell $(BIN)/python -c 'import torch; print(torch.cuda.device_count() or 2)')

# Images of containers often set it. Without bytecode each process compiles all that it imports: seconds a start.
unexport PYTHONDONTWRITEBYTECODE

LAUNCH = $(BIN)/accelerate launch --config_file accelerate_config.yaml --num_processes $(PROCESSES) -m train

.PHONY: demo song test test-all slurm-test bench chaos quality league gpu lint style types checks compiled clean-demo
.DELETE_ON_ERROR:

# With uv, else with pip; either gives the versions of constraints.txt.
INSTALL = $(BIN)/python scripts/install.py -c constraints.txt
# A line before a step that takes long.
say = @printf '\n== %s\n' "$(1)"

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than Python 3.11; name a newer one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(call say,Set-up: PyTorch and about 160 other packages into .venv; about a minute; needs 6 GB of disk)
	$(PYTHON) -m venv .venv
	$(INSTALL) -e '.[test]'
	@touch $@

demo: .venv/installed
ifeq ($(AUDIO),)
	$(call say,Recordings to practice on: 4 minutes of synthetic music; takes seconds)
	$(BIN)/python -m shards practice $(OUT)/audio
endif
	$(call say,Shards: the recordings as chunks for training; takes seconds for an hour of audio)
	$(BIN)/python -m shards build $(if $(AUDIO),'$(AUDIO)',$(OUT)/audio) $(OUT)/shards
	$(call say,Training: $(STEPS) steps of a small HVAE; 300 steps take about 5 minutes on two cores; Ctrl-C saves and stops)
	$(LAUNCH) hvae --config train/configs/hvae_tiny.yaml --data $(OUT)/shards --run-dir $(OUT)/hvae --optim.steps $(STEPS) \
	  --checkpoint.every 100 --tracking.evaluate_every 200
	$(call say,Report: the model measured on held-out recordings; less than a minute)
	$(BIN)/python -m train evaluate $(OUT)/hvae

song: FAMILY = $(firstword $(subst _, ,$(MODEL)))
song: .venv/installed
ifeq ($(AUDIO),)
	$(call say,Recordings to practice on: $(PRACTICE_MINUTES) minutes of synthetic music; a minute for half an hour)
	$(BIN)/python -m shards practice $(SONG)/audio --minutes $(PRACTICE_MINUTES)
endif
	$(call say,Shards: the recordings as chunks for training; takes seconds for an hour of audio)
	$(BIN)/python -m shards build $(if $(AUDIO),'$(AUDIO)',$(SONG)/audio) $(SONG)/shards --valid 0.2
	$(call say,Autoencoder: $(STEPS) steps of $(MODEL); 600 steps take about 4 minutes on two cores; Ctrl-C saves and stops)
	$(LAUNCH) $(FAMILY) --config $(MODEL) --data $(SONG)/shards --run-dir $(SONG)/$(MODEL) --optim.steps $(STEPS) \
	  --kl_warmup.steps 200 --checkpoint.every 100 --tracking.evaluate_every 300
	$(call say,Latents: the recordings as the autoencoder describes them; takes seconds for an hour of audio)
	$(BIN)/python -m train encode $(SONG)/$(MODEL) $(SONG)/shards $(SONG)/$(MODEL)-latents --seconds 10
	$(call say,Prior: $(PRIOR_STEPS) steps of a small transformer; 1200 steps take about 15 minutes on two cores)
	$(LAUNCH) prior --config prior_tiny --data $(SONG)/$(MODEL)-latents --run-dir $(SONG)/$(MODEL)-prior --data.batch 8 \
	  --optim.steps $(PRIOR_STEPS) --checkpoint.every 200 --tracking.evaluate_every 200
	$(call say,New pieces: eight of 30 seconds beside held-out recordings; about 3 minutes)
	$(BIN)/python -m train evaluate $(SONG)/$(MODEL)-prior --data $(SONG)/shards --pieces 8 --seconds 30

test: checks
	marks=$$($(BIN)/python .ci/which-tests --marks '$(SLOW)') && $(BIN)/python -m pytest -n $(WORKERS) -m "$$marks"

test-all: checks
	commit=$$(git rev-parse HEAD 2>/dev/null); $(BIN)/python -m pytest -n $(WORKERS)$(if $(NOTE), && \
	  $(BIN)/python .ci/which-tests --note "$$commit")

slurm-test: .venv/installed
	$(BIN)/python -m pytest tests/slurm

# mosaicml-streaming says that it needs numpy < 2.2, transformers < 5 and xxhash < 4. What is measured works without.
.venv/bench: .venv/installed
	$(call say,Set-up: the libraries that are measured beside; less than a minute)
	$(INSTALL) -e '.[test,bench]'
	$(INSTALL) --no-deps mosaicml-streaming==0.13.0
	@touch $@

bench: .venv/bench
	$(BIN)/python -m benchmarks speed $(PARTS) $(if $(QUICK),--quick)

chaos: .venv/installed
	$(BIN)/python -m benchmarks faults --target $(TARGET) --kills $(KILLS) --seed $(SEED) $(if $(JSON),--json $(JSON))

.venv/perceptual: .venv/installed
	$(call say,Set-up: Zimtohrli and ViSQOL; less than a minute; needs a C++ compiler)
	$(INSTALL) -e '.[test,perceptual]'
	@touch $@

quality: .venv/perceptual
	$(BIN)/python -m benchmarks quality $(if $(QUICK),--quick) $(if $(FOLDER),--folder $(FOLDER)) $(if $(JSON),--json $(JSON))

league: .venv/installed
	$(BIN)/python -m benchmarks league $(TRUNKS) $(if $(QUICK),--quick) $(if $(SIZE),--size $(SIZE)) \
	  $(if $(SECONDS),--seconds $(SECONDS)) $(if $(DATA),--data '$(DATA)') $(if $(FOLDER),--folder $(FOLDER)) \
	  $(if $(JSON),--json $(JSON))

gpu: .venv/installed
	$(BIN)/python -m benchmarks gpu $(PARTS) $(if $(CPU),--cpu) $(if $(QUICK),--quick) $(if $(FRESH),--fresh) \
	  $(if $(DATA),--data '$(DATA)') $(if $(MINUTES),--minutes $(MINUTES))

lint: style types

style: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/installed
	$(call say,Types; mypy takes half a minute the first time and seconds afterwards)
	$(BIN)/mypy

# mypy keeps one core busy. On another one the tests are compiled, which each worker would do itself otherwise.
checks: style
	@$(MAKE) --no-print-directory -j2 types compiled

compiled: .venv/installed
	@$(BIN)/python -m pytest --collect-only -q >/dev/null 2>&1 || true  # errors appear when the tests run

clean-demo:
	rm -rf demo song
