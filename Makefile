# Two commands from a fresh Debian 12 machine, as root: `make demo` and `make test`.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
VENV := .venv
PYTHON := $(VENV)/bin/python
STAMP := $(VENV)/.installed

# python3-bpfcc is BCC; linux-libc-dev the kernel's user API headers it compiles with; qemu to zstd are for
# tests/vm. prometheus is for the tests, which start their own: its service is masked before it is installed here, and stays
# so until `systemctl unmask prometheus`.
PACKAGES := python3-bpfcc linux-libc-dev python3-venv iproute2 ethtool frr bird2 nftables iperf3 \
            traceroute tcpdump iputils-ping procps util-linux mount \
            groff-base zsh systemd qemu-system-x86 busybox-static xz-utils zstd debian-archive-keyring prometheus

.PHONY: setup demo test test-vm test-vm-full lint man bench scale conformance coherence lifecycle soak search clean

setup: $(STAMP)

# Debian packages first, then a virtual environment that sees the system's BCC. Nothing is fetched when
# pyproject.toml has not changed since.
$(STAMP): pyproject.toml Makefile
	@missing=(); for package in $(PACKAGES); do \
	    dpkg-query -W -f='$${Status}' $$package 2>/dev/null | grep -q 'install ok installed' || missing+=($$package); \
	done; \
	if (($${#missing[@]})); then \
	    if [[ " $${missing[*]} " == *" prometheus "* ]]; then \
	        mkdir -p /etc/systemd/system; \
	        ln -sfn /dev/null /etc/systemd/system/prometheus.service; \
	    fi; \
	    apt-get update -qq; \
	    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$${missing[@]}" >/dev/null; \
	fi
	test -x $(PYTHON) || /usr/bin/python3 -m venv --system-site-packages $(VENV)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	$(PYTHON) -c 'from bcc import BPF'
	touch $@

# Side by side, but for tests of answers within a time (and guests, which take a CPU each).
test: setup
	$(PYTHON) -m ruff check .
	$(PYTHON) -m pytest -n auto --dist loadfile tests/unit tests/bpf tests/conformance
	XDPROUTER_LAB_PATIENCE=3 $(PYTHON) -m pytest -n auto --dist loadfile -m "not alone" tests/lab
	$(PYTHON) -m pytest -m alone tests/lab
	$(PYTHON) -m pytest tests/vm

# The packet tables, the verifiers and small labs on stock Debian kernels in QEMU; JUnit reports in build/vm.
test-vm: setup
	$(PYTHON) -m tests.vm

# All of each on each of the kernels: more than an hour.
test-vm-full: setup
	$(PYTHON) -m tests.vm --full

demo: setup
	$(PYTHON) -m lab.demo

bench: setup
	$(PYTHON) -m xdprouter bench
	$(PYTHON) -m tests.bench

# Full tables from raw netlink, BIRD and FRR: about a quarter of an hour, 2 GB of memory.
scale: setup
	$(PYTHON) -m tests.scale --report docs/scale.md

# xdprouter beside the plain kernel, packet by packet; PACKETS and SEED may be given.
conformance: setup
	$(PYTHON) -m tests.conformance --packets $(or $(PACKETS),1000000) $(if $(SEED),--seed $(SEED)) --report docs/conformance.md

# By how much the old way outlives a change, while traffic flows at full rate.
coherence: setup
	$(PYTHON) -m tests.coherence --rounds $(or $(ROUNDS),1000) --report docs/coherence.md

# Man pages into build/man, as the wheel has them; `man -l build/man/xdprouter.1`.
man: setup
	$(PYTHON) -m xdprouter.manual build/man

# 24 reloads, restarts and upgrades between two versions of the maps, each under 100,000 packets a second.
lifecycle: setup
	XDPROUTER_ROUNDS=$(or $(ROUNDS),24) $(PYTHON) -m pytest -s --timeout 1200 tests/lab/test_upgrade.py tests/lab/test_reload.py

# Everything at once for SECONDS (ten minutes), and nothing may leak or get lost.
soak: setup
	$(PYTHON) -m tests.soak --seconds $(or $(SECONDS),600)

# The property tests with new random examples, ROUNDS times (ten).
search: setup
	for ((round = 0; round < $(or $(ROUNDS),10); round++)); do \
	    $(PYTHON) -m pytest -q -m hypothesis --hypothesis-profile=search -n auto --dist loadfile tests/unit tests/bpf tests/conformance; \
	done

lint: setup
	$(PYTHON) -m ruff check .

clean:
	rm -rf $(VENV) build dist .pytest_cache .hypothesis .ruff_cache
