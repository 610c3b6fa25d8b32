# The node on seL4: images. Included by the Makefile at the top; paths are from there.
#
#   make image BOARD=qemu_virt_aarch64 CONFIG=release ANCHOR=anchor.bin

# The boards that have an image are the files of boards/ that say so, and are listed nowhere else.
SEL4_BOARDS := $(basename $(notdir $(shell grep -l '^platform = "microkit"' boards/*.toml)))

BOARD  ?= $(firstword $(SEL4_BOARDS))
CONFIG ?= release
ANCHOR ?=
# TENANT=tenant puts the tests' tenant in the place of `workload`, in an image of its own: target/BOARD-CONFIG-tenant.
TENANT ?=

SDK_BOARD    = $(MICROKIT_SDK)/board/$(BOARD)/$(CONFIG)
IMAGE        = target/$(BOARD)-$(CONFIG)$(addprefix -,$(TENANT))

SEL4_ARCH             = $(shell sed -n 's/.*"SEL4_ARCH": "\(.*\)".*/\1/p' $(SDK_BOARD)/include/kernel/gen_config.json)
SEL4_TARGET_aarch64  := aarch64-unknown-none
SEL4_TARGET_riscv64  := riscv64gc-unknown-none-elf
SEL4_TARGET           = $(SEL4_TARGET_$(SEL4_ARCH))

# The compiler for the domains: the first that has the core library for the target (`rustup target add`), or its sources
# to build it from (`rustup component add rust-src`; Debian's rustc-web with rust-web-src). GENESIS_RUSTC chooses another,
# GENESIS_SYSROOT a directory in which that one finds its core library.
GENESIS_RUSTC   ?= $(or $(shell for rustc in rustc /usr/bin/rustc; do \
    lib=$$($$rustc --print sysroot 2>/dev/null)/lib/rustlib; \
    if [ -d "$$lib/$(SEL4_TARGET)" ] || [ -d "$$lib/src/rust/library" ]; then echo $$rustc; break; fi; done),rustc)
GENESIS_SYSROOT ?=
SEL4_STD = $(shell [ -n "$(GENESIS_SYSROOT)" ] || [ -d "$$($(GENESIS_RUSTC) --print sysroot)/lib/rustlib/$(SEL4_TARGET)" ] || \
    echo -Zbuild-std=core,alloc -Zbuild-std-features=compiler-builtins-mem)

# The linker, which rustup does not put on the path: that of the compiler, of another Rust, or Debian's lld.
SEL4_LINKER ?= $(shell for rustc in $(GENESIS_RUSTC) rustc; do \
    lld=$$($$rustc --print sysroot 2>/dev/null)/lib/rustlib/$$($$rustc -vV 2>/dev/null | sed -n 's/^host: //p')/bin/rust-lld; \
    if [ -x "$$lld" ]; then echo "$$lld"; exit; fi; done; \
    command -v rust-lld || command -v ld.lld || ls /usr/lib/llvm-*/bin/ld.lld 2>/dev/null | tail -n 1)

# What was chosen here, for tools/doctor.
SEL4_CHOICE = GENESIS_RUSTC="$(GENESIS_RUSTC)" GENESIS_SYSROOT="$(GENESIS_SYSROOT)" SEL4_TARGET="$(SEL4_TARGET)" \
    SEL4_LINKER="$(SEL4_LINKER)"

# No path of this machine gets into an image.
SEL4_RUSTFLAGS = $(if $(GENESIS_SYSROOT),--sysroot=$(GENESIS_SYSROOT)) \
    --remap-path-prefix=$(CURDIR)=/genesis --remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)=/cargo

# Builds domains: those of the product, or the packages that follow.
SEL4_CARGO = $(call SEL4_RUN,$(CARGO) --config pds/.cargo/config.toml build)

# What a cargo command needs to work on domains.
SEL4_VARIABLE = CARGO_TARGET_$(subst -,_,$(shell echo $(SEL4_TARGET) | tr a-z A-Z))
define SEL4_RUN
env RUSTC="$$(command -v $(GENESIS_RUSTC))" RUSTC_BOOTSTRAP=1 SEL4_INCLUDE_DIRS=$(SDK_BOARD)/include \
    $(SEL4_VARIABLE)_LINKER="$(SEL4_LINKER)" $(SEL4_VARIABLE)_RUSTFLAGS="$(strip $(SEL4_RUSTFLAGS))" \
    $(1) --locked --manifest-path pds/Cargo.toml --release --target $(SEL4_TARGET) --target-dir target/pds/$(BOARD)-$(CONFIG) $(SEL4_STD)
endef

# Whether there is such a board, and an SDK for it; have-sdk: and all that domains are built with.
.PHONY: have-board
have-board:
	@$(if $(filter $(BOARD),$(SEL4_BOARDS)),:,echo "$(BOARD) is no board that has an image; in boards/ there are: $(SEL4_BOARDS)" >&2; exit 1)
	@tools/doctor sdk
	@[ -d $(SDK_BOARD) ] || { echo "the SDK at $(MICROKIT_SDK) has no $(BOARD) $(CONFIG)" >&2; exit 1; }

.PHONY: have-sdk
have-sdk: have-board
	@$(SEL4_CHOICE) tools/doctor rust cc core lld libclang

# Clippy of the compiler that the domains are built with: another cannot read what that one made.
SEL4_CLIPPY = $(dir $(shell command -v $(GENESIS_RUSTC)))cargo-clippy

.PHONY: have-clippy-sel4
have-clippy-sel4:
	@[ -x $(SEL4_CLIPPY) ] || { echo "no $(SEL4_CLIPPY) (rustup component add clippy, or Debian's rust-web-clippy)" >&2; exit 1; }

.PHONY: clippy-pds
clippy-pds: have-sdk have-clippy-sel4
	$(call SEL4_RUN,$(SEL4_CLIPPY) clippy --config pds/.cargo/config.toml) --workspace -- -D warnings

.PHONY: image
image: have-sdk ## build the seL4 image for BOARD and CONFIG: target/BOARD-CONFIG/loader.img
	$(SEL4_CARGO)
	$(if $(TENANT),$(SEL4_CARGO) --package $(TENANT))
	$(CARGO) run --locked --quiet --package sysdesc -- image $(BOARD) $(CONFIG) \
	    $(if $(ANCHOR),--prefill anchor=$(ANCHOR)) $(if $(TENANT),--tenant $(TENANT)) -o $(IMAGE)

# What only `make bench` boots. Never built in one cargo call with the product's.
BENCH_DOMAINS := hello bench-mailbox bench-mesh bench-net bench-node

.PHONY: bench-domains
bench-domains: have-sdk
	$(SEL4_CARGO) $(addprefix --package ,$(BENCH_DOMAINS))

# The domains that fault when a test wants it, for tests/tests/faults.rs; beside the real ones, which stay as they are.
.PHONY: faulty
faulty: have-sdk
	$(SEL4_CARGO) --package genesis-faulty

# The tests' tenant, likewise.
.PHONY: tenant
tenant: have-sdk
	$(SEL4_CARGO) --package tenant

# Another directory is another machine: its device secret is there.
MACHINE ?= target/qemu/$(BOARD)

.PHONY: qemu
qemu: image ## boot it with the console here; on the segment of `make lab`, if one runs (Ctrl-A X ends it)
	$(CARGO) build --locked --package lab --bins
	$(BIN)/qemu $(BOARD) --image $(IMAGE)/loader.img --dir $(MACHINE) --entropy $(ENTROPY) $(if $(wildcard $(LAB)/lab.json),--lab $(LAB))

# HEAD, twice, in places whose names are of different length, each with targets of its own. Without an anchor.
.PHONY: reproducible
reproducible: have-sdk ## build the release images from two clean clones and compare them byte by byte (slow)
	@dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
	one=$$dir/one two=$$dir/another-place/of-a-longer-name; differs=; commit=$$(git rev-parse HEAD); \
	for clone in $$one $$two; do \
	    git clone --quiet --no-checkout . $$clone; \
	    git -C $$clone checkout --quiet --detach $$commit; \
	    for board in $(SEL4_BOARDS); do \
	        env -u CARGO_TARGET_DIR $(MAKE) --no-print-directory -C $$clone image BOARD=$$board CONFIG=release ANCHOR= TENANT=; \
	    done; \
	done; \
	echo "== $$commit"; \
	for board in $(SEL4_BOARDS); do \
	    image=target/$$board-release/loader.img; \
	    for clone in $$one $$two; do (cd $$clone; sha256sum $$image); done; \
	    if cmp $$one/$$image $$two/$$image; then continue; fi; \
	    differs=yes; \
	    for program in $$(cd $$one; find target/pds/$$board-release/*/release -maxdepth 1 -type f -executable); do \
	        cmp $$one/$$program $$two/$$program || true; \
	    done; \
	done; \
	[ -z "$$differs" ] || { echo "the images of two clones are not the same" >&2; exit 1; }
