# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
#
# The front door. SwiftPM and CMake do the work behind it; `make help` lists the targets.

PREFIX ?= /usr/local
DESTDIR ?=
PYTHON ?= python3
# Processes that run the conformance suite; its tests mostly wait.
WORKERS ?= 4
# Of the simulator.
SEEDS ?= 100
FIRST ?= 1
STEPS ?= 100000
TRACE ?=
# Of each fuzzer.
FUZZ_SECONDS ?= 60
REGRESSIONS ?=

BUILD := $(CURDIR)/build
LIBRARY := $(BUILD)/lib/libnixl_md.so
VENV := $(BUILD)/venv
BIN := $(VENV)/bin

# The releases of NIXL that are tested against; each wheel is in an environment of its own.
NIXL_VERSIONS ?= $(shell cat Tests/nixl/versions)
NIXL_WHEELS := $(NIXL_VERSIONS:%=$(BUILD)/nixl/%/installed)

# What the library is made of.
INPUTS := Package.swift $(shell find Sources include tools/build-library tools/version -type f)

EXAMPLES := $(patsubst examples/%.cpp,$(BUILD)/examples/%,$(wildcard examples/*.cpp))

SWIFT_FILES := Package.swift Sources Tests/EtcdModel Tests/EtcdProtocolTests \
	Tests/Fuzz Tests/MetadataCoreTests Tests/NixlMDTests Tests/Simulation Tests/SimulationTests Tests/Simulator
# Not include/nixl_md.h, whose tables of comments are aligned by hand.
C_FILES = $(wildcard include/*.hpp) $(shell find Sources Tests $(wildcard examples) -type f \
	\( -name '*.[ch]' -o -name '*.cpp' -o -name '*.hpp' \))
SCRIPTS := tools/build-library tools/fuzz tools/require tools/test tools/version .ci/run
PYTHON_DIRECTORIES := Tests $(wildcard python examples)
# Each is a world of its own to mypy: some have modules of the same name.
TYPED := Tests/support Tests/conformance Tests/faults Tests/consumers Tests/artifact Tests/examples \
	Tests/nixl Tests/mutations \
	$(wildcard python examples)

# For everything that uses what was built.
export NIXL_MD_BUILD := $(BUILD)
export NIXL_MD_LIBRARY := $(LIBRARY)
export WORKERS
export NIXL_VERSIONS

BUILD_NEEDS := swift cc libc-headers curl-headers strip
TEST_NEEDS := $(BUILD_NEEDS) c++ cmake meson ninja pkg-config python venv readelf nm openssl strace \
	etcdctl unshare
DEMO_NEEDS := $(BUILD_NEEDS) c++ python
# An etcd of one's own replaces the private one of the demo.
ifeq ($(strip $(NIXL_ETCD_ENDPOINTS)),)
DEMO_NEEDS += etcd
endif

.DELETE_ON_ERROR:
.SUFFIXES:
.PHONY: all help examples nixl-backend demo test unit python conformance consumers artifact \
	simulation simulate mutations fuzz test-examples test-nixl test-faults memcheck format lint install clean

all: $(LIBRARY) ## build the shipped library: build/lib/libnixl_md.so, headers in build/include

help: ## list the targets
	@sed -n 's/^\([a-z -]*[a-z]\):.*## /\1\t/p' $(MAKEFILE_LIST) | \
		while IFS="$$(printf '\t')" read -r target text; do \
			printf '  make %-40s %s\n' "$$target" "$$text"; done
	@echo "Variables: PREFIX, DESTDIR (install); PYTHON; WORKERS, ETCD_34, ETCD_35, NIXL_VERSIONS (tests)"

$(LIBRARY): $(INPUTS)
	@tools/require --install $(BUILD_NEEDS)
	tools/build-library $(BUILD)

examples: $(EXAMPLES) ## build the C++ examples into build/examples

$(BUILD)/examples/%: examples/%.cpp $(LIBRARY)
	@tools/require --install c++
	@mkdir -p $(@D)
	$(CXX) -std=c++17 -O2 -Wall -Wextra -pthread -I$(BUILD)/include $< -o $@ \
		$(LIBRARY) -Wl,-rpath,'$$ORIGIN/../lib'

nixl-backend: $(LIBRARY) ## check examples/nixl_backend against the NIXL tree that NIXL_SOURCE names
	@test -f "$(NIXL_SOURCE)/src/core/nixl_metadata_backend.h" || { \
		echo "NIXL_SOURCE='$(NIXL_SOURCE)' is no source tree of NIXL's main branch" >&2; exit 1; }
	@tools/require --install c++ pkg-config
	$(CXX) -std=c++20 -Wall -Wextra -Werror -fsyntax-only -DHAVE_ETCD -I$(BUILD)/include \
		$(addprefix -I$(NIXL_SOURCE)/src/,core api/cpp api/cpp/backend infra utils) \
		$${NIXL_CXXFLAGS:-$$(pkg-config --cflags absl_log absl_strings tomlplusplus)} \
		examples/nixl_backend/nixl_etcd_metadata_backend.cpp

demo: ## show it: two agents, one is killed, the other is told (private etcd, 1 minute)
	@tools/require --install $(DEMO_NEEDS)
	@$(MAKE) --no-print-directory all examples
	PYTHONPATH=python $(PYTHON) examples/demo.py

test: ## run all tests, against etcd 3.4 and 3.5; installs what it needs
	@$(MAKE) --no-print-directory all examples test-tools
	@tools/test unit simulation python artifact consumers examples conformance

unit: ## the tests of the Swift modules
	@tools/require --install $(BUILD_NEEDS)
	@tools/test unit

simulation python conformance consumers artifact: ## one suite of the tests
	@$(MAKE) --no-print-directory all test-tools
	@tools/test $@

simulate: ## run seeds of the simulator: SEEDS=100 FIRST=1 STEPS=100000 TRACE= REGRESSIONS=
	@tools/require swift
	@swift build -c release --product simulate --scratch-path .build/simulate
	@.build/simulate/release/simulate --seeds $(SEEDS) --first $(FIRST) --steps $(STEPS) \
		$(if $(TRACE),--trace) $(if $(REGRESSIONS),--regressions)

mutations: ## make mistakes in the core on purpose: the simulator must find each within 1,000 seeds (25 minutes)
	@tools/require swift python
	$(PYTHON) Tests/mutations/run.py $(BUILD)/mutations 1000

fuzz: ## feed any bytes to what reads a server's answers, and any answers to the core: FUZZ_SECONDS=60 each
	@tools/require swift
	tools/fuzz $(BUILD)/fuzz $(FUZZ_SECONDS)

test-examples: ## the examples, the demonstration, and machines that lack what they need
	@$(MAKE) --no-print-directory all examples test-tools
	@tools/test examples

test-faults: ## clusters of three with members killed, silent, parted, wiped, upgraded, full; hosts stopped, forked, killed
	@$(MAKE) --no-print-directory all test-tools
	@tools/require --install ip nft
	@tools/test faults

test-nixl: ## the tests with the real NIXL from PyPI (its wheels need 350 MB each)
	@$(MAKE) --no-print-directory all test-tools $(NIXL_WHEELS)
	@tools/test nixl

# NIXL needs numpy; torch, which it names as well, only for tensors.
$(BUILD)/nixl/%/installed:
	@tools/require --install python venv
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install -q numpy
	$(@D)/bin/python -m pip install -q --no-deps nixl-cu12==$*
	@touch $@

memcheck: ## the C++ hosts of the conformance suite under valgrind; 20 minutes, needs a quiet machine
	@tools/require --install $(TEST_NEEDS) valgrind $(if $(ETCD_34),,etcd)
	@$(MAKE) --no-print-directory all $(VENV)/tests
	@WORKERS=$(if $(filter file,$(origin WORKERS)),2,$(WORKERS)) tools/test memcheck

.PHONY: test-tools
test-tools: $(VENV)/tests
	@tools/require --install $(TEST_NEEDS) $(if $(ETCD_34),,etcd)

$(VENV)/bin/python:
	@tools/require --install python venv
	$(PYTHON) -m venv $(VENV)

$(VENV)/tests: Tests/conformance/requirements.txt $(VENV)/bin/python
	$(BIN)/python -m pip install -q -r $<
	@touch $@

$(VENV)/lint: tools/requirements.txt $(VENV)/bin/python
	$(BIN)/python -m pip install -q -r $<
	@touch $@

format: $(VENV)/lint ## format all sources in place
	@tools/require swift
	swift format --in-place --recursive --parallel $(SWIFT_FILES)
	$(BIN)/clang-format -i $(C_FILES)
	$(BIN)/ruff format $(PYTHON_DIRECTORIES)
	$(BIN)/ruff check --fix $(PYTHON_DIRECTORIES)

lint: $(VENV)/lint $(VENV)/tests ## check format, types and scripts; changes nothing
	@tools/require swift
	swift format lint --strict --recursive --parallel $(SWIFT_FILES)
	$(BIN)/clang-format --dry-run -Werror $(C_FILES)
	$(BIN)/ruff format --check $(PYTHON_DIRECTORIES)
	$(BIN)/ruff check $(PYTHON_DIRECTORIES)
	for directory in $(TYPED); do \
		MYPYPATH=$$directory:python:Tests/support $(BIN)/mypy $$directory || exit 1; done
	$(BIN)/shellcheck $(SCRIPTS)

install: all ## install the library, headers, nixl_md.pc and the CMake package under PREFIX
	@tools/require --install cmake
	cmake -S . -B $(BUILD) -DCMAKE_INSTALL_PREFIX=$(PREFIX)
	DESTDIR=$(DESTDIR) cmake --install $(BUILD)

clean: ## remove everything that was built
	rm -rf $(BUILD) .build
