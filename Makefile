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
STATES ?=
# Agents of each fleet; empty: the simulation of few agents in any weather.
FLEET ?=
# For `make cost` and `make abi`: not empty: what is there is what may be there from now on.
RECORD ?=
# Of each measurement of `make bench`; ONLY="publish fetch" leaves the others out.
REPETITIONS ?= 7
ONLY ?=
# Of the exploration: states of each set of bounds, and other bounds than those.
LIMIT ?= 100000
BOUNDS ?=
# Of each fuzzer.
FUZZ_SECONDS ?= 60
FUZZ_RUNS ?=
REGRESSIONS ?=

BUILD := $(CURDIR)/build
LIBRARY := $(BUILD)/lib/libnixl_md.so
VENV := $(BUILD)/venv
BIN := $(VENV)/bin

# The interpreters in which `make test-pythons` runs the tests of the Python package.
PYTHONS ?= python3.9 python3.10 python3.11 python3.12 python3.13 pypy3

# The wheels of NIXL that are tested against, as CUDA-VERSION, each in an environment of its own. A few tests take
# more of them.
NIXL_VERSIONS ?= $(shell cat Tests/nixl/versions)
NIXL_MORE_VERSIONS ?= $(shell cat Tests/nixl/more_versions)
NIXL_WHEELS := $(NIXL_MORE_VERSIONS:%=$(BUILD)/nixl/%/installed)
NIXL_WHEELS += $(NIXL_VERSIONS:%=$(BUILD)/nixl/%/installed)

# The releases of Debian whose libcurl is tested against besides the system's; unpacked, not installed.
CURLS ?= trixie sid
CURL_TREES := $(CURLS:%=$(BUILD)/libcurl/%/version)

# What `make test-servers` tests against, each in turn (Tests/support/etcd_server.py).
SERVERS ?= 3.4 3.5 trixie sid like-3.7
UNPACKED := trixie sid

# What `make dist` makes.
DIST := $(BUILD)/dist
# The Debians in which the wheel is tried; the packages in that of this machine only.
ROOTS := $(addprefix $(DIST)/root/,bookworm trixie)

# What `make fresh-machine` runs, and where.
RELEASE ?= bookworm
AS ?= root
RUN ?= make demo

# What the library is made of.
INPUTS := Package.swift $(shell find Sources include tools/build-library tools/version -type f)

EXAMPLES := $(patsubst examples/%.cpp,$(BUILD)/examples/%,$(wildcard examples/*.cpp))
# Those that the demonstration runs.
DEMO_EXAMPLES := $(BUILD)/examples/cpp_agent

SWIFT_FILES := Package.swift Sources Tests/EtcdModel Tests/EtcdModelTests Tests/EtcdProtocolTests \
	Tests/Fuzz Tests/MetadataCoreTests Tests/NixlMDTests Tests/Simulation Tests/SimulationTests Tests/Simulator Tests/Exploration
# Not include/nixl_md.h, whose tables of comments are aligned by hand.
C_FILES = $(wildcard include/*.hpp Benchmarks/*.c Benchmarks/apiv3/*.cpp) $(shell find Sources Tests $(wildcard examples) -type f \
	\( -name '*.[ch]' -o -name '*.cpp' -o -name '*.hpp' \))
SCRIPTS := tools/abi tools/build-library tools/debian-archives tools/dist-debs tools/dist-tarball tools/dist-wheel \
	tools/etcd-servers tools/fresh-machine tools/fuzz tools/minimal-root \
	tools/require tools/sanitized tools/small-libcurl tools/test tools/unpack-libcurl tools/version .ci/run
PYTHON_DIRECTORIES := tools/pictures tools/prose tools/site Tests Benchmarks packaging $(wildcard python examples)
# Each is a world of its own to mypy: some have modules of the same name.
TYPED := Benchmarks Tests/support Tests/conformance Tests/cost Tests/curls Tests/faults Tests/fleet Tests/consumers Tests/artifact \
	Tests/cli Tests/deploy Tests/dist Tests/examples Tests/pages Tests/nixl Tests/mutations \
	$(wildcard python examples)

# For everything that uses what was built.
export NIXL_MD_BUILD := $(BUILD)
export NIXL_MD_LIBRARY := $(LIBRARY)
export WORKERS
export NIXL_VERSIONS NIXL_MORE_VERSIONS

BUILD_NEEDS := swift cc libc-headers curl-headers nghttp2-headers strip
TEST_NEEDS := $(BUILD_NEEDS) abidw c++ cmake meson ninja pkg-config python venv readelf nm openssl strace nginx \
	etcdctl unshare go rustc
DEMO_NEEDS := $(BUILD_NEEDS) c++ python
# An etcd of one's own replaces the private one of the demo.
ifeq ($(strip $(NIXL_ETCD_ENDPOINTS)),)
DEMO_NEEDS += etcd
endif

.DELETE_ON_ERROR:
.SUFFIXES:
.PHONY: all help examples nixl-backend demo test unit python conformance consumers artifact pages cli man docs \
	abi dist test-dist test-deploy fresh-machine simulation simulate explore mutations fuzz fuzz-interface sanitize races proxy servers test-pythons test-servers test-examples test-nixl test-faults test-fleet test-curls cost etcd-costs scale bench memcheck \
	format lint install clean

all: $(LIBRARY) ## build the shipped library: build/lib/libnixl_md.so, headers in build/include

help: ## list the targets
	@sed -n 's/^\([a-z -]*[a-z]\):.*## /\1\t/p' $(MAKEFILE_LIST) | \
		while IFS="$$(printf '\t')" read -r target text; do \
			printf '  make %-40s %s\n' "$$target" "$$text"; done
	@echo "Variables: PREFIX, DESTDIR (install); PYTHON; WORKERS, ETCD_34, ETCD_35, SERVERS, NIXL_VERSIONS (tests)"

$(LIBRARY): $(INPUTS)
	@tools/require --install $(BUILD_NEEDS)
	tools/build-library $(BUILD)

examples: $(EXAMPLES) ## build the C++ examples into build/examples

$(BUILD)/examples/%: examples/%.cpp $(LIBRARY)
	@tools/require --install c++ $(EXAMPLE_NEEDS)
	@mkdir -p $(@D)
	$(CXX) -std=c++17 -O2 -Wall -Wextra -pthread -I$(BUILD)/include $< -o $@ \
		$(LIBRARY) $(EXAMPLE_LIBRARIES) -Wl,-rpath,'$$ORIGIN/../lib'

$(BUILD)/examples/cpp_libuv: EXAMPLE_NEEDS := uv-headers
$(BUILD)/examples/cpp_libuv: EXAMPLE_LIBRARIES := -luv
$(BUILD)/examples/cpp_asio: EXAMPLE_NEEDS := boost-headers

nixl-backend: $(LIBRARY) ## check examples/nixl_backend against the NIXL tree that NIXL_SOURCE names
	@test -f "$(NIXL_SOURCE)/src/core/nixl_metadata_backend.h" || { \
		echo "NIXL_SOURCE='$(NIXL_SOURCE)' is no source tree of NIXL's main branch" >&2; exit 1; }
	@tools/require --install c++ pkg-config
	$(CXX) -std=c++20 -Wall -Wextra -Werror -fsyntax-only -DHAVE_ETCD -I$(BUILD)/include \
		$(addprefix -I$(NIXL_SOURCE)/src/,core api/cpp api/cpp/backend infra utils) \
		$${NIXL_CXXFLAGS:-$$(pkg-config --cflags absl_log absl_strings tomlplusplus)} \
		examples/nixl_backend/nixl_etcd_metadata_backend.cpp

demo: ## show it: two agents, one is killed, the other gets GONE (private etcd, 1 minute)
	@tools/require --install $(DEMO_NEEDS)
	@$(MAKE) --no-print-directory all $(DEMO_EXAMPLES)
	PYTHONPATH=python $(PYTHON) examples/demo.py

test: ## run all tests, against etcd 3.4 and 3.5; installs what it needs
	@$(MAKE) --no-print-directory all examples test-tools
	@RETRY=$${RETRY:-1} tools/test unit simulation python artifact consumers examples pages conformance

unit: ## the tests of the Swift modules
	@tools/require --install $(BUILD_NEEDS)
	@tools/test unit

simulation python conformance consumers artifact pages: ## one suite of the tests (pages: the code blocks of README and docs)
	@$(MAKE) --no-print-directory all test-tools
	@tools/test $@

cli: ## the tests of nixl-md, against etcd 3.4, 3.5.1 and the etcd of Debian's sid; TESTS=Tests/cli/test_ls.py runs a part
	@$(MAKE) --no-print-directory all test-tools servers
	@tools/require --install groff tmux
	@NIXL_MD_CLI_TESTS="$(TESTS)" tools/test cli

docs: $(VENV)/docs ## the site, in build/site/html: every page, the reference of C (Doxygen) and of Python; a broken link fails
	@tools/require --install doxygen
	@mkdir -p $(BUILD)/site/doxygen
	$(PYTHON) tools/pictures --check
	doxygen docs/site/Doxyfile
	$(PYTHON) tools/site $(BUILD)/site/pages $(BUILD)/site/doxygen/xml
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build -q -f docs/site/mkdocs.yml
	@echo "$(BUILD)/site/html/index.html"

man: $(VENV)/tests ## generate the man page of nixl-md: python/nixl-md.1
	PYTHONPATH=python $(BIN)/python -m nixl_md.cli.manpage > python/nixl-md.1

test-pythons: $(PYTHONS:%=$(BUILD)/pythons/%/installed) ## the tests of the Python package in PYTHONS="python3.9 python3.13 pypy3", each from PATH
	@$(MAKE) --no-print-directory all test-tools
	@tools/test $(PYTHONS)

$(BUILD)/pythons/%/installed: python/tests/requirements.txt
	$* -m venv $(@D)
	$(@D)/bin/python -m pip install -q -r $<
	@touch $@

simulate: ## run seeds of the simulator: SEEDS=100 FIRST=1 STEPS=100000 TRACE= REGRESSIONS= STATES=; FLEET=200: fleets of so many agents
	@tools/require swift
	@swift build -c release --product simulate --scratch-path .build/simulate -Xswiftc -assert-config -Xswiftc Debug
	@.build/simulate/release/simulate --seeds $(SEEDS) --first $(FIRST) --steps $(STEPS) \
		$(if $(FLEET),--fleet $(FLEET)) $(if $(TRACE),--trace) $(if $(REGRESSIONS),--regressions) $(if $(STATES),--states)

explore: ## explore every interleaving of the registration within bounds: BOUNDS="losses=2 op=1" LIMIT=states of each set
	@tools/require swift
	@swift build -c release --product explore --scratch-path .build/simulate -Xswiftc -assert-config -Xswiftc Debug
	@.build/simulate/release/explore --limit $(LIMIT) $(BOUNDS)

mutations: ## make mistakes in the core on purpose: each must be found within 1,000 seeds, or by the exploration
	@tools/require swift python
	$(PYTHON) Tests/mutations/run.py $(BUILD)/mutations 1000

fuzz: ## feed any bytes to decoders, core, HTTP/2, endpoint list and configuration: FUZZ_SECONDS=60 each, or FUZZ_RUNS=inputs
	@tools/require swift
	FUZZ_RUNS=$(FUZZ_RUNS) tools/fuzz $(BUILD)/fuzz $(FUZZ_SECONDS)

sanitize: ## the C++ hosts of the conformance suite, and the library, with AddressSanitizer and UBSan; TESTS=... runs a part
	@$(MAKE) --no-print-directory all test-tools
	tools/sanitized $(BUILD)/asan address
	@NIXL_MD_LIBRARY=$(BUILD)/asan/libnixl_md.so NIXL_MD_TESTS="$(TESTS)" tools/test sanitize

races: ## test_concurrent and its kin with ThreadSanitizer
	@$(MAKE) --no-print-directory all test-tools
	tools/sanitized $(BUILD)/tsan thread
	@NIXL_MD_LIBRARY=$(BUILD)/tsan/libnixl_md.so tools/test races

fuzz-interface: ## call the whole C interface by chance from several threads, with AddressSanitizer: FUZZ_SECONDS=60
	@$(MAKE) --no-print-directory all test-tools
	tools/sanitized $(BUILD)/asan address
	$(BIN)/python Tests/Fuzz/interface.py $(BUILD)/asan/interface $(FUZZ_SECONDS)

proxy: ## ten minutes behind etcd's grpc-proxy of 3.4 and 3.5, with restarts and a compaction: SECONDS=600
	@$(MAKE) --no-print-directory all test-tools
	@NIXL_MD_PROXY_SECONDS=$(if $(SECONDS),$(SECONDS),600) tools/test proxy

test-examples: ## the examples, the demonstration, and machines that lack what they need
	@$(MAKE) --no-print-directory all examples test-tools
	@tools/test examples

test-faults: ## clusters of three with members killed, silent, parted, wiped, upgraded, full; hosts stopped, forked, killed
	@$(MAKE) --no-print-directory all test-tools
	@tools/require --install ip nft
	@tools/test faults

test-fleet: ## 2,000 agents on an etcd that is stopped, killed, short of CPU: all come back; AGENTS=400, TESTS="-k stall"
	@$(MAKE) --no-print-directory all test-tools
	@NIXL_MD_FLEET_AGENTS=$(if $(AGENTS),$(AGENTS),2000) NIXL_MD_FLEET_TESTS="$(TESTS)" tools/test fleet

etcd-costs: $(VENV)/tests ## measure what a connection, a renewal, an event ... cost etcd: docs/scale.md; wants a quiet machine
	PYTHONPATH=Tests/support:python $(BIN)/python Benchmarks/etcd_costs.py

scale: $(VENV)/tests ## fleets of 500 to 2,000 agents beside the model of docs/scale.md, its tables, its picture of the load
	@$(MAKE) --no-print-directory all test-tools
	PYTHONPATH=Tests/support:python $(BIN)/python Benchmarks/scale.py measure
	PYTHONPATH=Tests/support:python $(BIN)/python Benchmarks/scale.py model
	PYTHONPATH=Tests/support:python $(BIN)/python Benchmarks/scale.py pictures
	$(PYTHON) tools/pictures

cost: ## instructions and system calls of a publish, fetch, event, renewal and idle tick; RECORD=1 records them
	@tools/require --install valgrind
	@$(MAKE) --no-print-directory all test-tools
	@NIXL_MD_RECORD=$(RECORD) tools/test cost

bench: $(VENV)/bench ## latency and CPU beside other clients, on an etcd of its own: REPETITIONS=7 ONLY="publish fetch"
	@$(MAKE) --no-print-directory all test-tools
	PYTHONPATH=Tests/support:python $(BIN)/python Benchmarks/bench.py --repetitions $(REPETITIONS) $(if $(ONLY),--only $(ONLY))

test-curls: ## the library with the libcurl of this system and of the Debian releases in CURLS
	@$(MAKE) --no-print-directory all test-tools $(CURL_TREES)
	@tools/test curls-system $(CURLS:%=curls-%)

$(BUILD)/libcurl/%/version:
	tools/unpack-libcurl $* $(@D)

servers: $(UNPACKED:%=$(BUILD)/etcd/%/version) ## the etcd of two later Debians, into build/etcd (35 MB to load)

# Both with one look at the archive.
$(UNPACKED:%=$(BUILD)/etcd/%/version) &:
	tools/etcd-servers $(BUILD)/etcd $(UNPACKED)

test-servers: ## conformance against more etcds, each in turn: SERVERS="3.4 3.5 trixie sid like-3.7" (1 hour)
	@$(MAKE) --no-print-directory all test-tools $(if $(filter trixie sid like-3.7,$(SERVERS)),servers)
	@tools/test $(SERVERS:%=conformance-%)

test-nixl: ## the tests with the real NIXL from PyPI (its wheels need 350 MB each)
	@$(MAKE) --no-print-directory all test-tools $(NIXL_WHEELS)
	@tools/require --install ip
	@tools/test nixl

# NIXL needs numpy; torch, which it names as well, only for tensors.
$(BUILD)/nixl/%/installed:
	@tools/require --install python venv
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install -q numpy
	$(@D)/bin/python -m pip install -q --no-deps nixl-$(subst -,==,$*)
	@touch $@

dist: $(LIBRARY) $(VENV)/dist $(DIST)/libcurl/version ## a wheel, Debian packages, a tarball: nixl_md without Swift, in build/dist
	@tools/require --install cmake debhelper dh-python lintian
	tools/dist-wheel $(BIN)/python $(LIBRARY) $(DIST)/libcurl $(DIST)
	tools/dist-debs $(BIN)/python $(BUILD) $(DIST)
	tools/dist-tarball $(BUILD) $(DIST)

# HTTP and OpenSSL only, from Debian's source package.
$(DIST)/libcurl/version: tools/small-libcurl
	@tools/require --install cc dpkg-source openssl-headers
	tools/small-libcurl $(@D)

abi: $(LIBRARY) ## compare the binary interface with its baseline; RECORD=1 makes the baseline
	@tools/require --install abidw cc
	@tools/abi $(if $(RECORD),--record) $(LIBRARY)

test-dist: $(ROOTS) ## what `make dist` has made, in minimal Debians (debootstrap; as root)
	@$(MAKE) --no-print-directory dist test-tools
	@tools/test dist

test-deploy: $(VENV)/deploy ## examples/deploy against the schemas of Kubernetes, compose and systemd
	@$(MAKE) --no-print-directory all test-tools
	@tools/require --install systemd-analyze
	@tools/test deploy

$(DIST)/root/%: tools/minimal-root
	@tools/require --install debootstrap
	@mkdir -p $(@D)
	tools/minimal-root $* $@ python3

fresh-machine: ## a command in a minimal Debian with Swift: RELEASE=bookworm AS=root RUN="make demo" (debootstrap; as root)
	@tools/require --install debootstrap
	@tools/fresh-machine $(RELEASE) $(AS) $(BUILD)/fresh $(RUN)

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

$(VENV)/bench: Benchmarks/requirements.txt $(VENV)/bin/python
	$(BIN)/python -m pip install -q -r $<
	@touch $@

$(VENV)/dist: packaging/wheel/requirements.txt $(VENV)/bin/python
	$(BIN)/python -m pip install -q -r $<
	@touch $@

$(VENV)/docs: docs/site/requirements.txt $(VENV)/bin/python
	$(BIN)/python -m pip install -q -r $<
	@touch $@

$(VENV)/deploy: Tests/deploy/requirements.txt $(VENV)/bin/python
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
	$(PYTHON) tools/prose
	$(PYTHON) tools/pictures --check

install: all ## install the library, headers, nixl_md.pc and the CMake package under PREFIX
	@tools/require --install cmake
	cmake -S . -B $(BUILD) -DCMAKE_INSTALL_PREFIX=$(PREFIX)
	DESTDIR=$(DESTDIR) cmake --install $(BUILD)

clean: ## remove everything that was built
	rm -rf $(BUILD) .build
