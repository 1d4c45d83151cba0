# Two commands do everything: `make serve` and `make test`.
#   PORT, HOST        where to serve (8080, 127.0.0.1)
#   PYTHON            the interpreter to use; the newest of 3.11 to 3.14 that works by default
#   JOBS              how many parts of the tests run at a time (three to two processors by default)
#   SKIP_COMPILE=1    run from the sources alone, without compiling what a chunk of audio goes through
#   SKIP_CONSOLE=1    serve without the page, which is built by Node.js (PyPI's where there is none)
#   SKIP_BROWSER=1, SKIP_SPEECH=1, SKIP_NODE=1, SKIP_PYTHONS=1   leave a part of the tests out

PORT ?= 8080
HOST ?= 127.0.0.1

.PHONY: help serve setup console wheel test format bench chaos clean

help: ## show what there is
	@sed -n 's/^\([a-z]*\):.*## /  make \1  \t/p' Makefile

serve: setup ## set up and serve on http://127.0.0.1:8080
	@.venv/bin/antiphon serve --host $(HOST) --port $(PORT)

setup: ## make .venv, install, compile, build the page, and pull the speech models once
	@scripts/setup

console: ## build the page anew, if its sources have changed
	@scripts/console

wheel: ## build a wheel, with the page in it, into dist/
	@scripts/wheel

test: ## install what the tests need; run every test and check
	@scripts/test

format: ## put the source in its form
	@.venv/bin/ruff format . && .venv/bin/ruff check --fix .

bench: ## measure speech, latency, memory and capacity (beside other bridges), and print tables
	@scripts/bench

chaos: ## break nodes, networks, model and store, and see whether anything is lost (SHORT=1, SEED=N)
	@SHORT="$(SHORT)" SEED="$(SEED)" scripts/chaos

clean: ## remove what setup and test have made
	@rm -rf src/antiphon/_compiled .venv .venv-* .mypy_cache .ruff_cache .pytest_cache .hypothesis out dist
	@rm -rf src/antiphon/console clients/node_modules clients/*/node_modules clients/*/dist tests/typescript/node_modules tests/rpc/conformance/grpc_js/node_modules
