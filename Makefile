# The commands of this project. `make` alone lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

IMAGE ?= focus-operator.io/focus:dev
TARGET := $(or $(CARGO_TARGET_DIR),target)
CRDS := focusjobs analyzerpools

.PHONY: help demo demo-down test lint generate check-generated generate-chart check-chart check-alerts doc unit e2e cluster cluster-down image krew bench notices sbom deny setup clean

help: ## List the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

demo: ## A real cluster, the whole system on it, one view of it; leaves it running (RECORDING=file.h5 for real data)
	@hack/demo

demo-down: ## End the demo and its cluster
	@hack/demo-down

test: ## Everything that must hold: format, lints, docs, generated files, unit and end-to-end tests
	@hack/test

lint: ## rustfmt and clippy, warnings denied
	cargo fmt --all --check
	cargo clippy --all-targets --locked -- -D warnings

doc: ## The API documentation, warnings denied
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --locked

generate: ## Write crds/ and the references of resources and metrics from the code, the dashboards, and what is made of the chart
	cargo build --locked
	@for crd in $(CRDS); do $(TARGET)/debug/focus crd $$crd > crds/$$crd.yaml; echo "wrote crds/$$crd.yaml"; done
	@$(TARGET)/debug/focus crd --reference > docs/crds.md; echo "wrote docs/crds.md"
	@hack/metrics-reference generate $(TARGET)/debug/focus
	@hack/chart generate

check-generated: ## Fail when crds/, a reference, a dashboard, a file made of the chart or the list of notices is stale
	@for crd in $(CRDS); do \
	  $(TARGET)/debug/focus crd $$crd | diff -u crds/$$crd.yaml - \
	    || { echo "crds/$$crd.yaml is stale: run 'make generate' and commit" >&2; exit 1; }; \
	done; echo "crds/ is fresh"
	@$(TARGET)/debug/focus crd --reference | diff -u docs/crds.md - \
	  || { echo "docs/crds.md is stale: run 'make generate' and commit" >&2; exit 1; }; echo "docs/crds.md is fresh"
	@hack/metrics-reference fresh $(TARGET)/debug/focus
	@hack/chart fresh
	@hack/notices fresh

generate-chart: ## Write what is made of the chart: its README, definitions and dashboards, golden renders, deploy/
	@hack/chart generate

check-chart: ## Lint the chart with Helm 4 and 3, and check its renders and deploy/ by the schemas of Kubernetes
	@hack/chart check

check-alerts: ## Check the chart's alerts and test them by promtool
	@hack/alerts

unit: ## Unit tests alone: no cluster needed
	cargo test --locked --lib --bins

cluster: setup ## Start a real one-node Kubernetes and a RabbitMQ on this machine
	@hack/cluster-up

cluster-down: ## Stop them and leave nothing behind
	@hack/cluster-down

setup: ## Install what a fresh Debian 12 lacks
	@hack/setup

image: ## Build focus in release mode, write .cluster/images/focus.tar and load it into the cluster
	cargo build --release --locked
	IMAGE=$(IMAGE) hack/image-build $(TARGET)/release/focus
	hack/image-load .cluster/images/focus.tar

krew: ## Build the kubectl plugin and pack it for Krew, with its manifest, in target/krew
	cargo build --release --locked --bin kubectl-focus
	hack/krew-pack $(TARGET)/krew $(TARGET)/release/kubectl-focus

bench: ## Measure everything but ten minutes of memory: the running demo, servers under load, floors, the spectrogram
	@FOCUS=$(TARGET)/release/focus hack/bench.sh
	cargo bench --bench spectrogram

notices: ## Write THIRD-PARTY-NOTICES.md: every crate in the programs, with its licence
	@hack/notices generate

sbom: ## Write a bill of materials (CycloneDX) of each program to target/sbom
	@hack/sbom $(TARGET)/sbom

deny: ## Licences and sources of every dependency
	@$$(hack/cargo-tool cargo-deny) --locked check licenses sources bans

clean: ## Remove what was built
	cargo clean
