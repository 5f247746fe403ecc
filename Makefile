# Names only: what is more than a line is an xtask. `make` lists the targets.

CARGO ?= cargo
XTASK := $(CARGO) run --quiet --package xtask
EVERYTHING := --workspace --all-features

# Servers on this machine are behind no proxy, whether or not the environment excepts them.
comma := ,
export NO_PROXY := 127.0.0.1,localhost$(addprefix $(comma),$(or $(NO_PROXY),$(no_proxy)))
export no_proxy := $(NO_PROXY)

.DEFAULT_GOAL := help
.PHONY: help prerequisites fetch build images e2e test lint fmt generate check-generated demo bench bench-operator bench-quality audit clean

help: ## List the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | column -t -s '|' 2>/dev/null || grep '##' Makefile

prerequisites: ## Check that cargo, a C compiler and Python 3 with pip and venv are here
	@./xtask/prerequisites.sh

fetch: prerequisites ## Fetch ONNX Runtime, models and Python packages into the user's cache (pinned, checked, once)
	@$(XTASK) -- fetch --group all

build: prerequisites ## Build the release binaries: expert-router, expert-router-operator, expert-router-train, expert-router-replay
	$(CARGO) build --release --package sidecar --package operator --package train --package replay

images: build ## Pack the three images as OCI archives into target/images, without a container engine
	@$(XTASK) -- fetch onnxruntime encoder
	@$(XTASK) --features images -- images

e2e: prerequisites ## The whole loop on a real cluster, under load and under faults (docs/e2e.md; E2E="--only loop" and other options)
	@[ "$(E2E_CLUSTER)" = existing ] || [ "$$(id -u)" = 0 ] || { echo "a cluster of one's own needs root (sudo -E env \"PATH=\$$PATH\" make e2e), or E2E_CLUSTER=existing: docs/e2e.md" >&2; exit 3; }
	@$(XTASK) -- fetch --group demo
	@$(XTASK) -- kubernetes
	@$(XTASK) -- nodes
	@$(XTASK) -- prometheus --own
	@$(XTASK) --features definitions -- definitions
	$(CARGO) build --release --package sidecar --package operator --package train --package replay --package tests \
	  --bin expert-router --bin expert-router-operator --bin expert-router-train --bin expert-router-replay --bin e2e
	@$(XTASK) --features images -- images --e2e
	target/release/e2e $(E2E)

test: prerequisites ## Fetch what the tests need, and run them all
	@$(XTASK) -- fetch --group test
	@$(XTASK) -- prometheus
	@$(XTASK) -- collector
	@$(XTASK) --features definitions -- definitions
	@$(XTASK) -- kubernetes -- $(CARGO) test --quiet --no-run $(EVERYTHING)
	$(CARGO) test $(EVERYTHING)

lint: prerequisites check-generated ## Formatting, clippy, generated files, licences
	$(CARGO) fmt --all --check
	$(CARGO) clippy --quiet $(EVERYTHING) --all-targets -- -D warnings
	@$(XTASK) --features audit -- audit

fmt: ## Format the sources
	$(CARGO) fmt --all

generate: prerequisites ## Write the generated files anew (CRDs, list of metrics, reference pages)
	@$(XTASK) --features generate -- generate

check-generated: prerequisites ## Check that the generated files are what the sources say
	@$(XTASK) --features generate -- generate --check

demo: prerequisites ## The whole loop on real answers: ask experts, score, train, evaluate, serve, show what it saves
	@$(XTASK) -- fetch --group demo
	@$(XTASK) --features demo -- demo

bench: prerequisites ## Added latency, throughput, memory: direct, Envoy, each kind of router, and one that is scraped or traced (target/bench/latency.json)
	@$(XTASK) -- fetch --group bench
	@$(XTASK) --features bench --release -- bench

bench-operator: prerequisites ## A thousand routers of five experts on a real API server: seconds to settle, calls, memory, writes at rest
	@$(XTASK) -- kubernetes
	$(CARGO) test --release --package tests --test cluster -- --ignored --nocapture scale

bench-quality: prerequisites ## Train every kind of router on every recorded pool of DATA=folder and compare them (target/bench/quality.json)
	@$(XTASK) -- fetch onnxruntime encoder
	$(CARGO) run --release --package train -- bench-quality $(if $(DATA),--data $(DATA))

audit: prerequisites ## cargo-deny: licences, bans, sources, known vulnerabilities (needs GitHub; installs cargo-deny once)
	@$(XTASK) --features audit -- audit --full

clean: ## Remove what was built (fetched parts stay in the user's cache)
	$(CARGO) clean
