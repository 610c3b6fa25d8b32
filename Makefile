# Genesis. `make` alone prints what there is.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
BIN   := target/debug
LAB   := target/lab

# make lab
NODES   ?= 1
ANCHOR  ?=
SCAN_MS ?=
ENTROPY ?= good

# make fuzz
FUZZ_SECONDS ?= 300

MICROKIT_SDK ?= /opt/microkit-sdk-2.3.0

# Domains are never built in one cargo call with tests or their helpers: features would unify, and a
# domain that got `alloc` from elsewhere is another program.
PROGRAMS := --package native --package sysdesc --package os-network-admin --bins

# What the native lab and its tests need besides Rust and a C compiler.
DEPS := iproute2 iputils-ping

.PHONY: help
help: ## print this
	@echo "Genesis: a server that makes its own identity, stays silent, and waits for its one administrator."
	@echo
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  lab:  NODES=n ANCHOR=anchor.bin SCAN_MS=ms ENTROPY=good|stuck|biased|fails-after:N"
	@echo "  fuzz: FUZZ_SECONDS=s for each target"

.PHONY: build
build: ## build every native program
	$(CARGO) build --locked $(PROGRAMS)

.PHONY: run
run: build ## boot a node, watch its first life, let a stranger fail, claim it
	$(BIN)/lab run

.PHONY: lab
lab: build ## leave nodes running on a segment of their own (docs/lab.md)
	$(BIN)/lab up --dir $(LAB) --nodes $(NODES) --entropy $(ENTROPY) \
	    $(if $(ANCHOR),--anchor $(ANCHOR)) $(if $(SCAN_MS),--scan-ms $(SCAN_MS))

.PHONY: lab-stop
lab-stop: ## stop what `make lab` started
	@if [ -x $(BIN)/lab ]; then $(BIN)/lab down --dir $(LAB); else echo "no lab was built"; fi

.PHONY: test
test: have-deps ## all tests that this machine can run
	$(CARGO) test --locked --workspace --exclude genesis-tests
	@$(MAKE) --no-print-directory build
	$(CARGO) test --locked --package genesis-tests
	@echo "=== SKIPPED: the seL4 tests. This version runs on the native platform only; the seL4 images are not in it. ==="

.PHONY: check
check: ## formatting, lints, documentation, system description, licences
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --quiet
	$(CARGO) run --locked --quiet --package sysdesc -- elaborate native
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
	    $(CARGO) deny --locked check licenses bans sources; \
	else \
	    echo "=== SKIPPED: the licence check; to run it: cargo install --locked cargo-deny ==="; \
	fi

.PHONY: fuzz
fuzz: ## fuzz every parser and ring for FUZZ_SECONDS each (nightly, cargo-fuzz)
	@$(CARGO) +nightly fuzz --version >/dev/null 2>&1 || \
	    { echo "make fuzz needs a nightly toolchain and cargo-fuzz: rustup toolchain install nightly; cargo install --locked cargo-fuzz" >&2; exit 1; }
	for target in $$($(CARGO) +nightly fuzz list); do \
	    echo "== $$target"; $(CARGO) +nightly fuzz run "$$target" -- -max_total_time=$(FUZZ_SECONDS); \
	done

.PHONY: deps
deps: ## install the Debian packages that the tests need (as root; else print the line)
	@missing=$$( (dpkg-query -W -f '$${db:Status-Abbrev} $${Package}\n' $(DEPS) 2>/dev/null || true) | awk '$$1 == "ii" { print $$2 }' | \
	    sort | comm -13 - <(printf '%s\n' $(DEPS) | sort) | xargs); \
	if [ -z "$$missing" ]; then exit 0; fi; \
	line="apt-get install -y --no-install-recommends $$missing"; \
	if [ "$$(id -u)" = 0 ]; then apt-get update -q && $$line; \
	else echo "missing Debian packages; as root: $$line" >&2; exit 1; fi

# make test installs what it needs where it may, and names it where it may not.
.PHONY: have-deps
have-deps:
	@$(MAKE) --no-print-directory deps

.PHONY: clean
clean: ## remove everything that was built
	$(CARGO) clean
