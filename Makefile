# SPDX-License-Identifier: Apache-2.0
# Everything a developer or CI does. `make run` and `make test` need nothing but Debian and this checkout.
.POSIX:
.PHONY: setup run demo lab test test-fast e2e soak fuzz check format bench docs lock clean

PY = .venv/bin/python
# With bytecode kept: tests start hundreds of processes, and pytest rewrites its modules only once.
PYTEST = env -u PYTHONDONTWRITEBYTECODE $(PY) -m pytest
AS_ROOT = $$([ "$$(id -u)" = 0 ] || echo sudo -n)

setup:            ## .venv with the locked runtime environment
	@scripts/setup runtime

run: setup        ## start the daemon with the embedded default and say how to use it
	@mkdir -p run/state
	@exec .venv/bin/strictmail serve --state-directory run/state

demo: setup       ## the whole story offline: the lab asked, and a real Postfix sending if there is one
	@exec .venv/bin/strictmail lab demo

lab: setup        ## a small internet with every fault, until Ctrl-C
	@exec .venv/bin/strictmail lab up

test:             ## everything: checks, unit, property, service, docs, end to end
	@scripts/setup runtime dev fuzz bench checkbench reportbench reportreader
	@scripts/setup-e2e
	$(MAKE) check
	$(PYTEST) -q -n 2 --dist loadgroup tests --ignore tests/e2e
	$(AS_ROOT) $(PYTEST) -q tests/e2e

test-fast:        ## unit, property, service: no rights needed, within a minute
	@scripts/setup runtime dev fuzz reportreader
	$(PYTEST) -q -n 3 --dist loadgroup -m "not slow" --hypothesis-profile=fast tests/unit tests/property tests/service

e2e:              ## real Postfix, Exim, sendmail, knot and unbound in network namespaces
	@scripts/setup runtime dev
	@scripts/setup-e2e
	$(AS_ROOT) $(PYTEST) -q tests/e2e

soak:             ## the long runs: fuzzing, kills, restarts; results go to docs/performance.md by hand
	@scripts/setup runtime dev fuzz
	scripts/soak

fuzz: soak

check:            ## formatting, lint, types, import rules, generated files
	@scripts/setup runtime dev fuzz
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-cache
	$(PY) scripts/generate --check

format:           ## let ruff write
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

docs:             ## regenerate what is generated from code
	@scripts/setup runtime dev
	$(PY) scripts/generate

bench:            ## the figures of docs/performance.md, each a ratio within one run
	@scripts/setup runtime bench checkbench reportbench
	$(PY) bench/run.py all

lock:             ## resolve the requirements anew
	@scripts/setup dev
	@scripts/lock

clean:
	rm -rf .venv .cache build dist run .mypy_cache .ruff_cache .pytest_cache .hypothesis
