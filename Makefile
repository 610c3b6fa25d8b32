# Genesis. `make` alone prints what there is.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
BIN   := target/debug
LAB   := target/lab

# make lab; with BOARD=..., nodes on that board
NODES   ?= 1
ANCHOR  ?=
SCAN_MS ?=
ENTROPY ?= good

# make bench
SECTIONS ?=
# Those that boot domains: the product's, and the bench's own.
SECTIONS_SEL4 := image memory boot mailbox drop packet

# make fuzz
FUZZ_SECONDS ?= 300

MICROKIT_SDK ?= /opt/microkit-sdk-2.3.0
export MICROKIT_SDK

# Domains are never built in one cargo call with tests or their helpers: features would unify, and a
# domain that got `alloc` from elsewhere is another program.
PROGRAMS := --package native --package lab --package sysdesc --package os-network-admin --bins

# Tests that see a node from outside: the same on native and on a board.
SYSTEM_TESTS := admin claim cuts entropy export gate impostor interop leaks mesh revoke roots silence

# What the native lab and its tests need besides Rust and a C compiler.
DEPS := curl iproute2 iputils-ping nftables openssl qemu-system-x86 tshark wireguard-go wireguard-tools
# What the seL4 images and their tests need more, besides the SDK.
DEPS_SEL4 := ipxe-qemu libclang-14-dev opensbi qemu-system-arm qemu-system-misc

.PHONY: help
help: ## print this
	@echo "Genesis: a server that makes its own identity, stays silent, and waits for its one administrator."
	@echo
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  lab:   BOARD=name[,name...] NODES=n KEEP=1 ANCHOR=anchor.bin SCAN_MS=ms ENTROPY=good|stuck|biased|fails-after:N"
	@echo "  bench: SECTIONS=\"name ...\""
	@echo "  fuzz:  FUZZ_SECONDS=s for each target"
	@echo "  sim:   SEEDS=n, or SEED=n to see one"

.PHONY: doctor
doctor: ## what this machine lacks for which command, and what to install or which setting to change
	@$(SEL4_CHOICE) tools/doctor

# need-NEED: what a target needs is looked at before it begins.
need-%:
	@tools/doctor $*

.PHONY: build
build: need-rust need-cc ## build every native program
	$(CARGO) build --locked $(PROGRAMS)

.PHONY: run
run: need-rust need-cc need-namespaces build ## boot a node, watch its first life, let a stranger fail, claim it
	$(BIN)/lab run

# Native, unless somebody names a board, or several with commas between them.
comma     := ,
LAB_BOARD  = $(if $(filter file default undefined,$(origin BOARD)),,$(BOARD))
LAB_IMAGES = $(filter-out native,$(subst $(comma), ,$(LAB_BOARD)))

.PHONY: have-boards lab-images
have-boards:
	@for board in $(LAB_IMAGES); do $(MAKE) --no-print-directory have-board BOARD=$$board; done

lab-images: have-boards
	@for board in $(LAB_IMAGES); do \
	    $(MAKE) --no-print-directory have-deps-sel4 image BOARD=$$board CONFIG=release ANCHOR=; \
	done

.PHONY: rehearse
rehearse: need-rust need-cc need-namespaces have-boards build lab-images ## found a fleet with three founders and NODES=n nodes, and all that follows (docs/rehearsal.md)
	$(BIN)/lab rehearse --dir target/rehearsal $(if $(filter command environment,$(origin NODES)),--nodes $(NODES)) \
	    $(if $(LAB_BOARD),--board $(LAB_BOARD))

.PHONY: lab
lab: have-boards build lab-images ## leave nodes running on a segment of their own (docs/lab.md)
	$(BIN)/lab up --dir $(LAB) --nodes $(NODES) --entropy $(ENTROPY) $(if $(LAB_BOARD),--board $(LAB_BOARD)) \
	    $(if $(ANCHOR),--anchor $(ANCHOR)) $(if $(SCAN_MS),--scan-ms $(SCAN_MS)) $(if $(filter-out 0,$(KEEP)),--keep)

# The administrator of `make lab-shell`: his key, his registry, his mesh. Another directory is another administrator.
ADMIN ?= target/lab-admin

.PHONY: lab-shell
lab-shell: need-namespaces build ## a shell on the segment of `make lab`, where all of docs/os-network-admin.md works
	@mkdir -p $(ADMIN)
	@echo "A shell on the lab's segment, by lab0. Tickets: $(LAB)/node-N/ticket. Guide: docs/os-network-admin.md. It ends with exit."
	@PATH="$(CURDIR)/$(BIN):$$PATH" XDG_CONFIG_HOME="$(abspath $(ADMIN))" XDG_DATA_HOME="$(abspath $(ADMIN))" PS1='lab$$ ' \
	    $(BIN)/lab enter --lab $(LAB) bash --norc

.PHONY: lab-stop
lab-stop: ## stop what `make lab` started
	@if [ -x $(BIN)/lab ]; then $(BIN)/lab down --dir $(LAB); else echo "no lab was built"; fi

.PHONY: test
test: need-rust need-cc need-namespaces need-tun have-deps ## all tests that this machine can run
	$(CARGO) test --locked --workspace --exclude genesis-tests --exclude lab
	@$(MAKE) --no-print-directory build
	$(CARGO) test --locked --package lab
	$(CARGO) test --locked --package genesis-tests
	$(call test_linux,native)
	@if reason=$$($(MAKE) --no-print-directory have-sel4 2>&1); then $(MAKE) --no-print-directory test-sel4; \
	else echo "=== SKIPPED: the seL4 tests, on both boards: $$(head -n 1 <<<"$$reason") ==="; fi

# A machine with Debian's kernel is the administrator's, and the nodes are on this board.
define test_linux
@if reason=$$($(MAKE) --no-print-directory have-linux 2>&1); then \
    GENESIS_BOARD=$(1) $(CARGO) test --locked --package genesis-tests --test linux -- --ignored; \
else echo "=== SKIPPED: the kernel's WireGuard, with nodes on $(1): $$(tail -n 1 <<<"$$reason") ==="; fi
endef

# Debian's kernel for the cloud and a shell for it, unpacked and not installed.
LINUX := target/linux

.PHONY: have-linux
have-linux: $(LINUX)

$(LINUX):
	@[ "$$(uname -m)" = x86_64 ] || { echo "Debian's kernel is booted on x86_64 only" >&2; exit 1; }
	@rm -rf $@.new; mkdir -p $@.new; cd $@.new; \
	fetch() { \
	    kernel=$$(apt-cache depends linux-image-cloud-amd64 | awk '$$1 == "Depends:" && !found++ { print $$2 }'); \
	    [ -n "$$kernel" ] && apt-get download -q "$$kernel" busybox-static; \
	}; \
	fetch || { [ "$$(id -u)" = 0 ] && apt-get update -q && fetch; } || \
	    { echo "apt-get cannot download linux-image-cloud-amd64 and busybox-static; as root: apt-get update" >&2; exit 1; }; \
	for package in *.deb; do dpkg-deb -x "$$package" .; rm "$$package"; done; \
	./bin/busybox depmod -b . "$$(ls lib/modules)"
	@mv $@.new $@

# Whether seL4 images can be built here: the SDK, and rust-sel4.
.PHONY: have-sel4
have-sel4: have-sdk have-rust-sel4

# rust-sel4 is at the tag that pds/Cargo.toml names and the commit that pds/Cargo.lock does, and the lock file is whole.
.PHONY: have-rust-sel4
have-rust-sel4:
	@$(CARGO) fetch --locked --quiet --manifest-path pds/Cargo.toml || { echo "cargo cannot fetch rust-sel4" >&2; exit 1; }

.PHONY: test-sel4
test-sel4: have-sel4 have-deps-sel4 ## the system tests on both seL4 boards under QEMU, release
	$(CARGO) build --locked $(PROGRAMS)
	for board in $(SEL4_BOARDS); do $(MAKE) --no-print-directory image faulty tenant BOARD=$$board CONFIG=release; done
	$(CARGO) test --locked --package sysdesc --test images -- --ignored
	$(CARGO) test --locked --package qemu -- --ignored
	$(CARGO) test --locked --package lab --test board --test rehearse -- --ignored
	$(CARGO) test --locked --package genesis-tests --test image --test mixed --test snapshot -- --ignored
	$(call test_linux,$(firstword $(SEL4_BOARDS)))
	for board in $(SEL4_BOARDS); do \
	    echo "== the system tests on $$board"; \
	    GENESIS_BOARD=$$board $(CARGO) test --locked --package genesis-tests $(addprefix --test ,$(SYSTEM_TESTS)) -- --test-threads=2; \
	    GENESIS_BOARD=$$board $(CARGO) test --locked --package genesis-tests --test faults --test leaks --test stacks -- --ignored --test-threads=2; \
	done

# The test prints what was cut where, and what it left.
.PHONY: cuts
cuts: need-rust need-cc need-namespaces need-tun have-deps build ## kill whole nodes at 42 points of their life, native and on both seL4 boards, and see what they are then
	$(CARGO) test --locked --package genesis-tests --test cuts -- --ignored --nocapture
	@if reason=$$($(MAKE) --no-print-directory have-sel4 2>&1); then \
	    $(MAKE) --no-print-directory have-deps-sel4; \
	    for board in $(SEL4_BOARDS); do \
	        $(MAKE) --no-print-directory image BOARD=$$board CONFIG=release ANCHOR=; echo "== $$board"; \
	        GENESIS_BOARD=$$board $(CARGO) test --locked --package genesis-tests --test cuts -- --ignored --nocapture; \
	    done; \
	else echo "=== SKIPPED: the same on both boards: $$(head -n 1 <<<"$$reason") ==="; fi

# make sim
SEED  ?=
SEEDS ?= 1000
# Seeds of random actions, 2000 of each.
CHANCE ?= 100

.PHONY: sim
sim: need-rust need-cc ## simulate the life of nodes for SEEDS seeds, in fair and rough weather; SEED=n replays one and prints its trace
	$(CARGO) run --locked --quiet --package genesis-sim --bin sim -- $(if $(SEED),--seed $(SEED),--seeds $(SEEDS))
	$(if $(SEED),,$(CARGO) run --locked --quiet --package genesis-sim --bin sim -- --crowd 1000)
	$(if $(SEED),,$(CARGO) run --locked --quiet --package genesis-sim --bin sim -- --chance $(CHANCE) 2000)
	$(if $(SEED),,SIM_WHOLE=1 $(CARGO) test --locked --package genesis-sim)

.PHONY: check
check: need-rust need-cc need-rustfmt need-clippy need-git ## formatting, structure, lints, documentation, system description, licences, of all three workspaces
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path pds/Cargo.toml --all --check
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml --check
	$(CARGO) run --locked --quiet --package lint
	$(CARGO) run --locked --quiet --package sysdesc -- elaborate native
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --quiet
	@$(MAKE) --no-print-directory check-fuzz check-pds check-licences

# What the machine lacks is said, and the rest is checked.
skipped = echo "=== SKIPPED: $(1) ==="

# The library under the fuzz programs is C++. That they run under a nightly compiler is `make fuzz`'s to show.
.PHONY: check-fuzz
check-fuzz:
	@if c++ --version >/dev/null 2>&1; then \
	    $(CARGO) clippy --locked --manifest-path fuzz/Cargo.toml --all-targets --target-dir target/fuzz -- -D warnings; \
	else \
	    $(call skipped,lints of the fuzz programs: libFuzzer needs a C++ compiler, c++); \
	fi

.PHONY: check-pds
check-pds:
	@if ! reason=$$($(MAKE) --no-print-directory have-rust-sel4 2>&1); then \
	    $(call skipped,lock file and lints of the seL4 domains: $$(head -n 1 <<<"$$reason")); \
	elif ! reason=$$($(MAKE) --no-print-directory have-sdk have-clippy-sel4 2>&1); then \
	    $(call skipped,lints of the seL4 domains: $$(head -n 1 <<<"$$reason")); \
	else \
	    for board in $(SEL4_BOARDS); do $(MAKE) --no-print-directory clippy-pds BOARD=$$board CONFIG=release; done; \
	fi

.PHONY: check-licences
check-licences:
	@if ! $(CARGO) deny --version >/dev/null 2>&1; then \
	    $(call skipped,the licences of all dependencies; to check them: cargo install --locked cargo-deny); exit; \
	fi; \
	for manifest in Cargo.toml fuzz/Cargo.toml pds/Cargo.toml; do \
	    if [ $$manifest = pds/Cargo.toml ] && ! $(MAKE) --no-print-directory have-rust-sel4 >/dev/null 2>&1; then \
	        $(call skipped,the licences of the seL4 domains' dependencies: cargo cannot fetch rust-sel4); \
	    else \
	        echo "== licences: $$manifest"; \
	        $(CARGO) deny --locked --manifest-path $$manifest --config deny.toml check licenses bans sources; \
	    fi; \
	done

.PHONY: bench
bench: need-rust need-cc ## measure: target/bench.json and the tables of docs/bench.md; SECTIONS="image ..." measures a part
	$(bench_domains)
	$(CARGO) run --locked --release --package genesis-bench -- --document docs/bench.md $(SECTIONS)

# Without an SDK those sections say that they are skipped.
ifneq ($(if $(SECTIONS),$(filter $(SECTIONS_SEL4),$(SECTIONS)),all),)
define bench_domains
@if $(MAKE) --no-print-directory have-sel4; then $(MAKE) --no-print-directory have-deps-sel4; \
for board in $(SEL4_BOARDS); do $(MAKE) --no-print-directory image bench-domains BOARD=$$board CONFIG=release ANCHOR=; done; fi
endef
endif

.PHONY: fuzz
fuzz: ## fuzz every parser and ring for FUZZ_SECONDS each (nightly, cargo-fuzz)
	@$(CARGO) +nightly fuzz --version >/dev/null 2>&1 || \
	    { echo "make fuzz needs a nightly toolchain and cargo-fuzz: rustup toolchain install nightly; cargo install --locked cargo-fuzz" >&2; exit 1; }
	for target in $$($(CARGO) +nightly fuzz list); do \
	    echo "== $$target"; $(CARGO) +nightly fuzz run "$$target" -- -max_total_time=$(FUZZ_SECONDS); \
	done

.PHONY: deps
deps: ## install the Debian packages that the tests need (as root; else print the line)
	$(call debian,$(DEPS) $(if $(wildcard $(MICROKIT_SDK)/bin/microkit),$(DEPS_SEL4)))

# Installs packages where it may, and names them where it may not.
define debian
	@missing=$$( (dpkg-query -W -f '$${db:Status-Abbrev} $${Package}\n' $(1) 2>/dev/null || true) | awk '$$1 == "ii" { print $$2 }' | \
	    sort | comm -13 - <(printf '%s\n' $(1) | sort) | xargs); \
	if [ -z "$$missing" ]; then exit 0; fi; \
	line="apt-get install -y --no-install-recommends $$missing"; \
	if [ "$$(id -u)" = 0 ]; then apt-get update -q && $$line; \
	else echo "missing Debian packages; as root: $$line" >&2; exit 1; fi
endef

.PHONY: have-deps have-deps-sel4
have-deps:
	$(call debian,$(DEPS))
have-deps-sel4:
	$(call debian,$(DEPS_SEL4))

.PHONY: clean
clean: ## remove everything that was built
	$(CARGO) clean

include pds/sel4.mk
