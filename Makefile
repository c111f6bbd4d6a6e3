# The front door. `make help` lists what there is.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PY := .venv/bin/python
DATA ?= data
export PYTHONDONTWRITEBYTECODE=1

help: ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: .venv/.ready ## everything the project needs, on this machine: packages, virtual environment, Kafka
.venv/.ready: requirements/all.lock pyproject.toml local/pom.xml local/setup.sh
	local/setup.sh
	@touch $@

demo: setup ## the main job: a fleet, a kill -9, and a ledger that reconciles to zero
	.venv/bin/millrace demo

up: setup ## the platform on this machine, in the foreground
	.venv/bin/millrace up --data $(DATA) --insecure-loopback

down: setup ## stop it
	.venv/bin/millrace down --data $(DATA)

QUICK := -m "not long and not chaos and not soak and not compose"
test: setup ## the tests against real servers, three files at a time; what fails there fails the run, unless tests/flaky.txt lists it
	$(PY) -m tests.run $(QUICK)

test-long: setup ## the tests that take minutes: upgrades, kills, a cluster, awkward data folders
	$(PY) -m tests.run -m "long and not chaos and not soak and not compose"

check: setup ## ruff, mypy --strict, the walls between the packages, hadolint
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/hadolint $$(git ls-files '*Dockerfile')

bench: setup ## every figure the documentation claims, one JSON line each
	.venv/bin/millrace bench --json

KILLS ?= 200
SEED ?= 1
chaos: setup ## long runs of kill -9 and SIGTERM, and of fuzz (KILLS, SEED)
	SCHEDULES=10000 $(PY) -m pytest tests/protocol
	KILLS=$(KILLS) SEED=$(SEED) $(PY) -m pytest -m chaos -s

test-compose: setup ## docker-compose.yml for real: health, confinement, kill -9 of every container (needs docker)
	$(PY) -m pytest -m compose -s tests/compose

soak: setup ## ten minutes at full load: memory stays flat
	$(PY) -m pytest -m soak -s

docs: setup ## regenerate the parts of docs/ that come from code
	$(PY) -m docs.generate

lock: ## resolve the dependencies again (needs uv)
	uv pip compile pyproject.toml --extra local --extra dev -o requirements/all.lock $(LOCK)
	uv pip compile pyproject.toml --constraint requirements/all.lock -o requirements/services.lock $(LOCK)
LOCK := --upgrade --generate-hashes --universal --python-version 3.11 --no-emit-index-url --no-emit-find-links --no-annotate --no-header -q

.PHONY: help setup demo up down test test-long check bench chaos test-compose soak docs lock
