# What one types; `make help` lists it. The work stands in scripts/, cargo and tests/it.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: run test lint dist dist-test bench soak fuzz fresh help

# make soak SEED=7 repeats one run of a long test; without it the tests take their fixed seed.
seed = $(if $(SEED),STRONGROOM_SEED=$(SEED))
in_dist = STRONGROOM_BIN=$(CURDIR)/dist/strongroom

# A long form is the tests of one module, named like its target, with more faults and more load. It
# must write its own record: a filter that matches no test would pass in silence.
define long_form
@mkdir -p target && touch target/$@.started
STRONGROOM_LONG=$@ $(seed) $(1) --test it -- $@:: $(2) --nocapture --test-threads=1
@test docs/measured/$@.json -nt target/$@.started || { echo "make $@: no new docs/measured/$@.json" >&2; exit 1; }
endef

run: ## build and start an evaluation server in ./strongroom-eval (Ctrl-C stops it)
	scripts/setup build
	cargo build --locked
	scripts/run

test: ## install the test peers and run every test
	scripts/setup test
	cargo test --locked

lint: ## check format and lints, and what cargo-deny and shellcheck say where installed
	scripts/setup build
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	@if cargo deny --version >/dev/null 2>&1; then cargo deny --locked check bans licenses sources; \
	else echo "skipped: cargo deny is not installed"; fi
	@if command -v shellcheck >/dev/null; then shellcheck .ci/run $$(grep -lE '^#!.*(bash|/sh)' scripts/*); \
	else echo "skipped: shellcheck is not installed"; fi

dist: ## build the static executable, its SBOM and its checksums (signed with SIGN_KEY=FILE)
	scripts/setup dist
	scripts/dist

dist-test: dist ## run the integration tests against dist/strongroom
	scripts/setup test
	$(in_dist) cargo test --locked --test it

bench: dist ## measure dist/strongroom against nginx, PostgreSQL and OpenBao (docs/measured/bench.json)
	scripts/setup bench
	$(call long_form,$(in_dist) scripts/dist test)

soak: ## kill and fault the server many times, and look for lost writes (SEED=N repeats a run)
	scripts/setup test
	$(call long_form,cargo test --locked,restore::)

fuzz: ## run each fuzz target for its long time (SEED=N repeats a run)
	scripts/setup test
	$(call long_form,cargo test --locked)

fresh: ## as root: prove `make run` and `make test` in a new Debian 12 root folder
	scripts/fresh

help: ## print this list
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r name what; do \
		printf '  make %-10s %s\n' "$$name" "$$what"; done
