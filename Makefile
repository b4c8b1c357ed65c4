# One front door. Each target installs what it needs, pinned, from package registries.
.DEFAULT_GOAL := help
SHELL := /bin/bash

.PHONY: help demo demo-down dev test check bench fuzz build crds chart dashboards dashboards-png sbom release-dry clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## A real cluster, NATS, the chart, a gateway of two pods, one event seen on both; left running
	@tests/demo/demo.sh

demo-down: ## End the demo's cluster and remove its state
	@tests/cluster/down.sh demo --purge

dev: ## A nats-server, one gateway and the pages of examples/ on loopback, no cluster
	@tests/demo/dev.sh

test: ## Every test: lints, units, the gateway with a real NATS, everything on a real cluster
	@tests/run.sh

check: ## What takes a minute of that: formatting, lints, unit tests
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo test --locked --workspace --exclude sse-tests

bench: ## The gateway beside nchan, Mercure and the kernel's floor: ONLY=memory,broadcast REPEATS=3 DOC=1
	@bench/run.sh

fuzz: ## What strangers send, found by coverage: TARGET=all SECONDS=600 for each
	@gateway/fuzz/run.sh "$(or $(TARGET),all)" "$(or $(SECONDS),600)"

build: ## The binaries, for development
	cargo build --locked --workspace --bins

crds: ## Make the CRD and its reference from the types, after a change in crds/src
	UPDATE=1 cargo test --quiet -p sse-crds --test crd --test reference
	cp crds/ssegateways.yaml charts/sse-gateway/files/ssegateways.yaml

chart: ## Make the chart's table of values and its snapshots, after a change in charts
	@tests/cluster/toolbox/build.sh helm helm3 helm-unittest >/dev/null
	UPDATE=1 cargo test --quiet --locked -p sse-tests --test chart the_readme
	@UPDATE=1 tests/chart/chart.sh

dashboards: ## Make the chart's dashboards from their code, after a change in tests/src/dashboards
	UPDATE=1 cargo test --quiet --locked -p sse-tests --test gateway the_dashboards_in_the_chart

dashboards-png: ## Draw them for the documentation, from a load of seven minutes on the test cluster
	@tests/telemetry/pictures.sh

sbom: ## A bill of materials of each binary, in target/sbom
	@release/sbom.sh target/sbom

release-dry: ## What a release would publish, but for images and binaries, in target/release-dry
	@release/dry-run.sh target/release-dry

clean: ## Remove what was built here; the shared cache is in ~/.cache/sse-gateway
	cargo clean
