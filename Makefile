# cocker: build, install, show, test, measure.
#
#   make             the program, ready to run
#   make install     below PREFIX (/usr/local), inside DESTDIR where one is given
#   make demo        the quick start, before your eyes, on a store of its own that is gone afterwards
#   make test        every test; needs root (or sudo), installs what is missing from Debian's packages
#   make test-vm     of these, the ones in a virtual machine: Debian's own kernel, cgroup v2 alone
#   make bench       speed beside the kernel's floor and beside docker, podman, crun, runc, lxc and systemd-nspawn, into docs/benchmarks;
#                    COCKER_BENCH_QUICK=1 for two minutes instead of half an hour; bench/src/main.rs lists what else can be chosen
#   make bench-steps where the time of a boot goes, into docs/benchmarks
#   make bench-guard system calls, processes, instructions and bytes beside what is recorded in bench/guard.json; an error where they grew;
#                    bench-guard-record writes the record anew
#   make bench-details   of single commands, images, the repository, mappings and sessions, to the terminal
#   make security-report   what is open to root inside, beside docker's, podman's and systemd-nspawn's defaults
#   make fuzz        any bytes as an archive, as a message, as what a session shows and as what an SFTP server says, each for
#                    FUZZ_SECONDS (60); needs root, a nightly compiler and cargo-fuzz
#   make ci          what must hold before a change is taken: format, lints, tests, what commands cost; with every program that images are exchanged with

PREFIX  ?= /usr/local
DESTDIR ?=
CARGO   ?= cargo
RUSTC   ?= rustc
FUZZ_SECONDS ?= 60

TARGET_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))
TRIPLE     := x86_64-unknown-linux-gnu
COCKER     := $(TARGET_DIR)/$(TRIPLE)/release/cocker
COMPARE    := $(TARGET_DIR)/$(TRIPLE)/release/compare
FLOOR      := $(TARGET_DIR)/$(TRIPLE)/release/floor
RESIDENTS  := $(TARGET_DIR)/residents
SCANNER    := $(TARGET_DIR)/scanner
# As crates/cocker/build.rs builds them: static, at a fixed address, without an unwinder.
RESIDENT_FLAGS := -Ctarget-feature=+crt-static -Crelocation-model=static -Cpanic=abort

comma := ,
# Nothing where we are root already. Cargo's own environment is kept, so that root finds it.
AS_ROOT := $(if $(filter-out 0,$(shell id -u)),sudo --preserve-env=PATH$(comma)CARGO_HOME$(comma)RUSTUP_HOME$(comma)CARGO_TARGET_DIR$(comma)COCKER_TEST_DIR$(comma)COCKER_TEST_CACHE$(comma)COCKER_TEST_ROUNDS$(comma)COCKER_TEST_TRIES$(comma)COCKER_TEST_SEED$(comma)COCKER_TEST_SLOWNESS$(comma)COCKER_TEST_PROGRAM$(comma)COCKER_TEST_KERNEL$(comma)COCKER_BENCH_ROUNDS$(comma)COCKER_BENCH_QUICK$(comma)COCKER_BENCH_ROWS$(comma)COCKER_BENCH_SUBJECTS$(comma)COCKER_BENCH_MEGABYTES env HOME="$$HOME")

# A program, and the Debian package that has it. Rust itself is expected to be there.
BUILD_NEEDS := cc=build-essential
DEMO_NEEDS  := $(BUILD_NEEDS) script=bsdutils unshare=util-linux
VM_NEEDS    := $(BUILD_NEEDS) debootstrap=debootstrap setpriv=util-linux mke2fs=e2fsprogs xz=xz-utils \
               qemu-system-x86_64=qemu-system-x86
TEST_NEEDS  := $(BUILD_NEEDS) newuidmap=uidmap pasta=passt setfattr=attr debootstrap=debootstrap unshare=util-linux ip=iproute2 ps=procps ssh=openssh-client \
               mkfs.xfs=xfsprogs mkfs.btrfs=btrfs-progs \
               vi=vim-tiny less=less file=file nc=netcat-openbsd \
               nft=nftables iptables=iptables nsenter=util-linux \
               sshd=openssh-server /usr/lib/openssh/sftp-server=openssh-sftp-server $(VM_NEEDS)
# What images are exchanged with in the tests, which leave out what is not there.
INTEROP_NEEDS := skopeo=skopeo podman=podman crun=crun buildah=buildah umoci=umoci xz=xz-utils zstd=zstd
# Who is measured beside, and with what.
PEERS_NEEDS := $(BUILD_NEEDS) unshare=util-linux ip=iproute2 iptables=iptables nft=nftables debootstrap=debootstrap perl=perl-base zstd=zstd \
               dockerd=docker.io docker=docker.io podman=podman /usr/lib/podman/netavark=netavark crun=crun runc=runc lxc-start=lxc \
               systemd-nspawn=systemd-container
GUARD_NEEDS := $(BUILD_NEEDS) unshare=util-linux ip=iproute2 strace=strace valgrind=valgrind
BENCH_NEEDS := $(BUILD_NEEDS) hyperfine=hyperfine unshare=util-linux ip=iproute2 iptables=iptables \
               /usr/bin/time=time zstd=zstd ssh=openssh-client sshd=openssh-server
# Whose containers are looked at from inside, beside ours.
REPORT_NEEDS := $(BUILD_NEEDS) unshare=util-linux ip=iproute2 dockerd=docker.io docker=docker.io podman=podman crun=crun newuidmap=uidmap \
               systemd-nspawn=systemd-container

.PHONY: all build residents install install-services uninstall demo test test-vm bench bench-steps bench-guard bench-guard-record bench-details measures \
        security-report fuzz ci interop-programs format lint clean

all: build

build:
	$(CARGO) build --release --locked -p cocker

residents:
	RUSTFLAGS="$(RESIDENT_FLAGS)" $(CARGO) build --profile resident --locked --target $(TRIPLE) \
	    --target-dir $(RESIDENTS) -p cocker-init -p cocker-supervisor

install: build residents
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/cocker $(DESTDIR)$(PREFIX)/share/doc/cocker
	install -m 755 $(COCKER) $(DESTDIR)$(PREFIX)/bin/cocker
	install -m 755 $(RESIDENTS)/$(TRIPLE)/resident/cockerinit $(RESIDENTS)/$(TRIPLE)/resident/cocker-supervisor \
	    $(DESTDIR)$(PREFIX)/lib/cocker/
	install -m 644 README.md README.zh-CN.md CHANGELOG.md LICENSE docs/RESTART.md $(DESTDIR)$(PREFIX)/share/doc/cocker/
	$(MAKE) install-services

# What boots containers with the host: systemd's unit and OpenRC's script, each where its own kind looks for it.
install-services:
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system $(DESTDIR)/etc/init.d
	sed 's|@PREFIX@|$(PREFIX)|' packaging/cocker.service >$(DESTDIR)$(PREFIX)/lib/systemd/system/cocker.service
	chmod 644 $(DESTDIR)$(PREFIX)/lib/systemd/system/cocker.service
	sed 's|@PREFIX@|$(PREFIX)|' packaging/cocker.initd >$(DESTDIR)/etc/init.d/cocker
	chmod 755 $(DESTDIR)/etc/init.d/cocker

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/cocker
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/lib/cocker/,cockerinit cocker-supervisor)
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/share/doc/cocker/,README.md README.zh-CN.md CHANGELOG.md LICENSE RESTART.md)
	rm -f $(DESTDIR)$(PREFIX)/lib/systemd/system/cocker.service $(DESTDIR)/etc/init.d/cocker
	-rmdir $(DESTDIR)$(PREFIX)/lib/cocker $(DESTDIR)$(PREFIX)/share/doc/cocker

demo:
	.ci/install-missing $(DEMO_NEEDS)
	$(MAKE) build
	$(AS_ROOT) demo/quick-start.sh $(COCKER)

test:
	.ci/install-missing $(TEST_NEEDS)
	$(CARGO) test --workspace --locked --tests --no-run
	$(AS_ROOT) $(CARGO) test --workspace --locked --tests

test-vm:
	.ci/install-missing $(VM_NEEDS)
	$(CARGO) test -p cocker --locked --test boxed --no-run
	$(AS_ROOT) $(CARGO) test -p cocker --locked --test boxed

measures: build
	$(CARGO) build --release --locked -p cocker-bench

bench:
	.ci/install-missing $(PEERS_NEEDS)
	$(MAKE) measures
	$(AS_ROOT) $(COMPARE) table $(COCKER) $(FLOOR) "$$($(AS_ROOT) bench/debian-root)" docs/benchmarks
	$(MAKE) bench-steps

bench-steps:
	.ci/install-missing $(PEERS_NEEDS) strace=strace
	$(MAKE) measures
	$(AS_ROOT) $(COMPARE) steps $(COCKER) $(FLOOR) "$$($(AS_ROOT) bench/debian-root)" docs/benchmarks/WHERE-THE-TIME-GOES.md

bench-guard:
	.ci/install-missing $(GUARD_NEEDS)
	$(MAKE) measures
	$(AS_ROOT) $(COMPARE) guard $(COCKER) bench/guard.json

bench-guard-record:
	.ci/install-missing $(GUARD_NEEDS)
	$(MAKE) measures
	$(AS_ROOT) $(COMPARE) guard $(COCKER) bench/guard.json record

bench-details:
	.ci/install-missing $(BENCH_NEEDS)
	$(MAKE) build
	$(AS_ROOT) bench/commands.sh $(COCKER)
	$(AS_ROOT) bench/images.sh $(COCKER)
	$(AS_ROOT) bench/repository.sh $(COCKER)
	$(AS_ROOT) $(CARGO) bench --locked -p cocker --bench mappings
	$(AS_ROOT) $(CARGO) bench --locked -p cocker --bench sessions

# Only the report itself goes to standard output: `make -s security-report >docs/security-report.md`.
security-report:
	@.ci/install-missing $(REPORT_NEEDS) >&2
	@$(MAKE) build >&2
	@$(CARGO) build --locked -p cocker --example security-table >&2
	@$(RUSTC) --edition=2024 -Copt-level=1 -Ctarget-feature=+crt-static -o $(SCANNER) crates/cocker/tests/containers/isolation/attacker.rs
	@$(AS_ROOT) bench/security-report.sh $(COCKER) $(SCANNER) $(TARGET_DIR)/$(TRIPLE)/debug/examples/security-table

# Nothing is installed here: what fuzzing needs is no Debian package. Leaks are not looked for, since a decoder's thread may
# still be about to end when they are counted; memory is bounded all the same.
fuzz:
	@rustc +nightly --version >/dev/null 2>&1 || { echo "missing: a nightly compiler (rustup toolchain install nightly)"; exit 1; }
	@$(CARGO) fuzz --version >/dev/null 2>&1 || { echo "missing: cargo-fuzz (cargo install cargo-fuzz)"; exit 1; }
	cd crates/cocker-image/fuzz && mkdir -p corpus/import && \
	    $(AS_ROOT) env ASAN_OPTIONS=detect_leaks=0 $(CARGO) +nightly fuzz run import corpus/import seeds -- -detect_leaks=0 -max_len=40000 -timeout=20 -max_total_time=$(FUZZ_SECONDS)
	cd crates/cocker-protocol/fuzz && mkdir -p corpus/messages corpus/modes && \
	    $(CARGO) +nightly fuzz run messages corpus/messages -- -max_len=4096 -timeout=20 -max_total_time=$(FUZZ_SECONDS) && \
	    $(CARGO) +nightly fuzz run modes corpus/modes -- -dict=modes.dict -max_len=4096 -timeout=20 -max_total_time=$(FUZZ_SECONDS)
	cd crates/cocker-sftp/fuzz && mkdir -p corpus/replies && \
	    $(CARGO) +nightly fuzz run replies corpus/replies seeds -- -max_len=4096 -timeout=20 -max_total_time=$(FUZZ_SECONDS)

format:
	$(CARGO) fmt --all --check

lint:
	.ci/install-missing $(BUILD_NEEDS)
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

ci: format lint interop-programs test bench-guard

interop-programs:
	.ci/install-missing $(INTEROP_NEEDS)

clean:
	$(CARGO) clean
