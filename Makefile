# Targets are short: what they do is in scripts/. All set up what they need
# (Debian packages by apt, as root or by sudo), and only where it is missing.

SHELL := /bin/bash
.DEFAULT_GOAL := help

PREFIX  ?= /usr/local
DESTDIR ?=
# Packages that test, race, lint and fuzz look at.
PKG     ?= ./...
# Passed on to the scripts where set: make test PKG=./forks TESTFLAGS=-run=Finalize
export PKG TESTFLAGS NO_SKIP FUZZTIME KILLS SOAK

.PHONY: help
help: ## Show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

.PHONY: demo
demo: build ## Replay a bundled chain with forks and draw its tree
	@scripts/demo.sh

.PHONY: testnet
testnet: build ## Run four sidecars with forks, kills and a late one, and check all they say
	@bin/accessor testnet $(TESTNETFLAGS)

.PHONY: test
test: ## Run all tests (under ten minutes)
	@scripts/test.sh

.PHONY: build
build: ## Build bin/accessor
	@scripts/build.sh bin/accessor

.PHONY: race
race: ## Run the tests under the race detector, the long ones shortened
	@scripts/deps.sh
	go test -race -short -p 2 $(TESTFLAGS) $(PKG)

.PHONY: lint
lint: ## Check formatting, vet, golangci-lint, vulnerabilities
	@scripts/lint.sh

.PHONY: bench
bench: build ## Measure import, fork, walk-back, roots, proofs, open
	@BIN=bin/accessor scripts/bench.sh $(BENCHFLAGS)

.PHONY: bench-release
bench-release: release ## The same with the release build, for publication
	@BIN=bin/accessor-release scripts/bench.sh $(BENCHFLAGS)

.PHONY: fuzz
fuzz: FUZZTIME := $(or $(FUZZTIME),2000000x)
fuzz: ## Fuzz each decoder with FUZZTIME inputs (2000000x)
	@scripts/fuzz.sh

.PHONY: crash
crash: ## Kill replays at random points, KILLS times (500)
	@scripts/crash.sh

.PHONY: soak
soak: build ## A day of blocks with forks, then reads against a model for SOAK (1h)
	@BIN=bin/accessor scripts/soak.sh $(BENCHFLAGS)

.PHONY: soak-api
soak-api: build ## Send 10 million requests to the API: memory and goroutines stay flat
	@bin/accessor bench api --soak $(or $(REQUESTS),10000000) $(BENCHFLAGS)

.PHONY: release
release: ## Build bin/accessor-release with a static, optimised RocksDB
	@scripts/rocksdb.sh scripts/build.sh bin/accessor-release

.PHONY: test-release
test-release: ## Run all tests with the release build's RocksDB
	@scripts/rocksdb.sh scripts/test.sh

.PHONY: install
install: BIN := $(or $(BIN),bin/accessor)
install: build ## Install the program, manual pages and completions under PREFIX (/usr/local)
	@DESTDIR=$(DESTDIR) PREFIX=$(PREFIX) scripts/install.sh $(BIN)

.PHONY: fresh
fresh: ## Run demo and test in a fresh Debian 12 (root, debootstrap)
	@scripts/fresh.sh

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin build
