# Each target installs what it needs first: Python 3.11 with venv is all that must be there.
.DEFAULT_GOAL := help
.PHONY: help run test check bench fmt protos locks docs images cluster test-cluster test-durability fuzz install-run install-dev
BIN := .venv/bin
CODE := chassis services ml infra demo cli tests
# Two of these files at a time, in their order; what times, kills or fills a whole platform has the machine to itself.
BESIDE := tests/charts --ignore=tests/charts/test_images.py tests/unit tests/integration
ALONE := tests/charts/test_images.py tests/durability tests/fuzz tests/e2e
SLOWEST := --durations=30 --durations-min=5

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: install-run ## the platform, a journey through it, a report; DATA=<file> MAPPING=<file> ONCE=1 STATE=.rapport PORT=8080 CUSTOMERS=2000 SEED=1
	@set -- run; \
	[ -z "$$STATE" ] || set -- "$$@" --state "$$STATE"; \
	[ -z "$$PORT" ] || set -- "$$@" --port "$$PORT"; \
	[ -z "$$DATA" ] || set -- "$$@" --data "$$DATA"; \
	[ -z "$$MAPPING" ] || set -- "$$@" --mapping "$$MAPPING"; \
	[ -z "$$CUSTOMERS" ] || set -- "$$@" --customers "$$CUSTOMERS"; \
	[ -z "$$SEED" ] || set -- "$$@" --seed "$$SEED"; \
	case "$$ONCE" in ''|0) ;; *) set -- "$$@" --once ;; esac; \
	exec $(BIN)/rapport "$$@"

test: install-dev ## all tests; ARGS= goes to pytest, which then runs them one by one
ifeq ($(ARGS),)
	$(BIN)/python -m pytest $(SLOWEST) -n 2 --dist loadfile --no-loadscope-reorder $(BESIDE)
	$(BIN)/python -m pytest $(SLOWEST) $(ALONE)
else
	$(BIN)/python -m pytest $(ARGS)
endif

check: install-dev ## format, lint, types, borders, generated code and docs, sizes
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python -m infra.limits
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && infra/protos.sh "$$fresh/gen" && \
	diff -r -x __pycache__ protos/gen "$$fresh/gen" || { echo "protos/gen differs from protos/rapport: run make protos" >&2; exit 1; }
	@[ ! -f infra/docs.py ] || $(BIN)/python -m infra.docs --check
	$(BIN)/python -m infra.dashboards --check
	$(BIN)/python -m infra.alerts

fuzz: install-dev ## made-up bodies, requests and messages, against all services; N=1000000 inputs
	RAPPORT_FUZZ_INPUTS=$(or $(N),1000000) $(BIN)/python -m pytest -s --timeout=0 tests/fuzz $(ARGS)

bench: install-dev ## ours, the peer and the limit, side by side
	@for file in tests/bench/bench_*.py; do \
		echo "== $$file"; $(BIN)/python -m "tests.bench.$$(basename "$$file" .py)" || exit 1; \
	done

fmt: install-dev ## format the code
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix --quiet $(CODE)

protos: install-dev ## generate protos/gen from protos/rapport
	infra/protos.sh

docs: install-dev ## write docs/SETTINGS.md, docs/ERRORS.md and the dashboards from the code
	$(BIN)/python -m infra.docs
	$(BIN)/python -m infra.dashboards

locks: install-dev ## compile locks/ from pyproject.toml; UPGRADE=1 takes newer versions
	infra/lock.sh

images: ## container images of the services and jobs, and their sizes; TAG=dev REGISTRY= ONLY="gateway profiles"
	infra/images.sh $(ONLY)

cluster: ## a Kubernetes on this machine for tests, with this release and the one before on it; as root, on Debian 12
	@CLUSTER=../shared/cluster infra/node.sh

test-cluster: install-dev ## Rapport on the cluster that KUBECONFIG names: installed, operated, broken; FULL=1 all of it; ARGS= goes to pytest
	@[ ! -d build/previous/charts ] || export RAPPORT_PREVIOUS_TAG=previous RAPPORT_PREVIOUS_CHART=build/previous/charts/rapport; \
	$(BIN)/python -m pytest -s tests/cluster $(ARGS)

test-durability: install-dev ## kill -9 of PostgreSQL, profiles, gateway and relay under load, receipts compared with the log; ROUNDS=200 SEED=1
	$(BIN)/python -m tests.durability.rounds --rounds $(or $(ROUNDS),200) --seed $(or $(SEED),1)

install-run:
	@infra/venv.sh run

install-dev:
	@infra/venv.sh dev
