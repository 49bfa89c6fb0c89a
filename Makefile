# session-ops. `make help` lists the targets; `make rollout` and `make test` do all their own set-up.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help rollout verify lab lab-destroy lab-images-destroy test lint test-unit test-protocol test-ledger test-integration \
        stateful test-fleet test-fleet-slow test-ansible-core model model-deep mutation wheelhouse chaos soak \
        rehearsal mover-kills \
        bench-rollout bench-store bench-owned bench-move bench-mover-memory bench-memory bench-prepare lock reference

export PATH := $(CURDIR)/.venv/bin:$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
# Compiled modules save every playbook and test run seconds.
unexport PYTHONDONTWRITEBYTECODE
unexport ANSIBLE_INVENTORY
PLAY := ansible-playbook
ARGS ?=
MINUTES ?= 30
EXAMPLES ?= 30
SESSIONS ?= 100000
KILLS ?= 200
SEED ?= $(shell shuf -i 1-999999 -n 1)

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

rollout: lab wheelhouse ## Make the lab, roll out Redis and the session service on it, verify every host
	@$(PLAY) playbooks/rollout.yml $(ARGS)
	@scripts/lab-welcome

verify: ## Verify every host of the lab, changing nothing
	@scripts/bootstrap lab
	@$(PLAY) playbooks/verify.yml $(ARGS)

lab: ## Make the lab's hosts, or start them again
	@scripts/bootstrap lab
	@$(PLAY) playbooks/lab/create.yml

lab-destroy: ## Remove the lab's hosts, network, key and secrets
	@scripts/bootstrap lab
	@$(PLAY) playbooks/lab/destroy.yml

lab-images-destroy: ## Remove the cached host images (shared by all checkouts)
	@scripts/lab clean-images

wheelhouse: ## Build the release that the hosts install
	@scripts/bootstrap venv
	@scripts/wheelhouse

test: ## Lint, unit, protocol, integration and fleet tests, on a lab of their own
	@scripts/bootstrap test
	@$(MAKE) --no-print-directory lint test-unit test-protocol test-ledger test-integration test-fleet

lint: ## ansible-lint, yamllint, ruff, mypy, shellcheck, role documentation
	@scripts/bootstrap venv
	@scripts/lint

test-unit: ## Tests that need nothing but Python and a private Redis
	@scripts/bootstrap test
	@scripts/pytest-parallel tests/unit $(ARGS)

test-protocol: ## The ownership protocol's model, every guard taken away; the guards of the implementation; linearizability
	@scripts/bootstrap test
	@scripts/pytest-parallel tests/protocol tests/linearizability $(ARGS)

stateful: ## The owned store under EXAMPLES random runs of each database, and with planted bugs, minutes
	@scripts/bootstrap test
	@EXAMPLES=$(EXAMPLES) pytest tests/protocol/test_stateful_owned.py tests/protocol/test_stateful_crashes.py \
	  tests/protocol/test_stateful_planted.py $(ARGS)

test-ledger: ## The ledger finds broken stores, passes correct ones and the real service; the rig heals what it breaks
	@scripts/bootstrap test
	@scripts/pytest-parallel tests/ledger tests/chaos tests/rehearsal $(ARGS)

test-integration: ## Tests with real servers on loopback
	@scripts/bootstrap test
	@scripts/pytest-parallel tests/integration tests/contract $(ARGS)

test-fleet: wheelhouse ## Molecule and the fleet tests, on the lab `test` (destroyed at the end)
	@scripts/bootstrap test
	@scripts/test-fleet $(ARGS)

test-fleet-slow: wheelhouse ## The fleet tests that take minutes each
	@scripts/bootstrap test
	@scripts/test-fleet -m slow

model: ## Search the ownership protocol's default scenarios, and print a counterexample for every guard taken away
	@scripts/bootstrap venv
	@python -m tests.protocol $(ARGS)

model-deep: ## The larger scenarios as well, half an hour on two cores
	@scripts/bootstrap venv
	@python -m tests.protocol --deep $(ARGS)

mutation: ## Take each guard of the protocol out of the implementation and see which test notices: out/mutation.json
	@scripts/bootstrap test
	@python -m tests.protocol.mutation $(ARGS)

test-ansible-core: wheelhouse ## The playbooks with the newer releases of ansible-core, on the lab `test`
	@scripts/bootstrap lab
	@scripts/test-ansible-core $(ARGS)

chaos: ## Every fault once on the lab's fleet, under the ledger: out/chaos.json
	@scripts/bootstrap test
	@python -m tests.chaos round --seed $(SEED) $(ARGS)

soak: ## Faults at random on the lab's fleet for MINUTES, picked by SEED, under the ledger: out/soak.json
	@scripts/bootstrap test
	@python -m tests.chaos soak --minutes $(MINUTES) --seed $(SEED) --hold 15 $(ARGS)

mover-kills: ## The mover killed KILLS times at random among callers, on real servers: out/mover-kills.json
	@scripts/bootstrap test
	@python -m tests.chaos.mover_kills --kills $(KILLS) --seed $(SEED) $(ARGS)

rehearsal: wheelhouse ## A migration of SESSIONS sessions, there and back, on a lab of its own: out/rehearsal.json
	@scripts/bootstrap test
	@scripts/rehearsal --sessions $(SESSIONS) --seed $(SEED) $(ARGS)

bench-rollout: ## Time first rollout, second run and verification on a lab of its own: out/bench-rollout.json
	@scripts/bootstrap test
	@scripts/wheelhouse
	@python -m tests.bench.rollout $(ARGS)

bench-store: ## Repository and service against bare commands, empty routes and others, in pairs: out/bench-store.json
	@scripts/bootstrap bench
	@rm -f out/bench-store.json
	@python -m tests.bench.store $(ARGS) || [ -e out/bench-store.json ]
	@python -m tests.bench.http --add-to bench-store

bench-owned: ## Mirrored reads and writes, flips of the flag, and silences after faults: out/bench-owned.json
	@scripts/bootstrap test
	@python -m tests.bench.owned $(ARGS)

bench-move: ## Bulk moves against redis-cli --pipe and a plain loop, moves back, validation: out/bench-move.json
	@scripts/bootstrap test
	@python -m tests.bench.move $(ARGS)

bench-mover-memory: ## The memory of the mover over ten million made-up rows: out/bench-mover-memory.json
	@scripts/bootstrap test
	@python -m tests.bench.mover_memory $(ARGS)

bench-memory: ## The memory of the service over ten million requests, a quarter of an hour: out/bench-memory.json
	@scripts/bootstrap bench
	@python -m tests.bench.memory $(ARGS)

bench-prepare: ## How long `migrate prepare` keeps readers and writers of 1,000,000 rows waiting: out/bench-prepare.json
	@scripts/bootstrap test
	@python -m tests.bench.prepare $(ARGS)

lock: ## Renew the lock files from requirements/*.in
	@scripts/bootstrap venv
	@for f in runtime dev bench; do uv pip compile -q --upgrade --universal --generate-hashes --python-version 3.11 \
	  --no-header --no-annotate requirements/$$f.in -o requirements/$$f.txt; done

reference: ## Write the pages that are generated from the code
	@scripts/role-readme && scripts/reference && scripts/openapi
