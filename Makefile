.DEFAULT_GOAL := help
.PHONY: help test race lint bench fuzz packages

COUNT    ?= 1
PKGS     ?= ./...
BENCH    ?= .
FUZZTIME ?= 30s

help: ## Show this list.
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  %-9s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The package that takes longest comes first, so that the others run beside it.
test: ## Run every test under the race detector, with the real SDK and browser (installs them).
	@scripts/setup-test-tools
	go test -race -timeout 15m ./e2e ./...

race: ## Run the tests of PKGS COUNT times in random order under the race detector; installs nothing.
	go test -race -shuffle=on -count=$(COUNT) -timeout 15m $(PKGS)

lint: ## Check formatting, go vet, staticcheck and a tidy go.mod.
	@scripts/lint

bench: ## Run the benchmarks of PKGS that match BENCH.
	go test -run '^$$' -bench '$(BENCH)' -benchmem $(PKGS)

fuzz: ## Fuzz every Fuzz function of PKGS for FUZZTIME each: a duration, or a number of inputs as 1000x.
	@scripts/fuzz $(FUZZTIME) $(PKGS)

packages: ## Build the .deb and .rpm of the standalone server into dist/.
	@scripts/packages
