# weft: see README.md for what the targets are for. `make help` lists them.
SHELL := /bin/bash
export GOFLAGS := -trimpath -buildvcs=false
export CGO_ENABLED := 0
export PATH := /usr/sbin:/sbin:$(PATH)

COMMIT := $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
EPOCH := $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
LDFLAGS := -s -w -X github.com/weft-cni/weft/internal/version.Commit=$(COMMIT)
ARCH ?= $(shell go env GOARCH)
WALK ?= .
LANES ?= 3
SUITE ?=
ONLY ?= .
TIME ?= 1m

.PHONY: help build demo test e2e conformance kernels bpf-coverage bench hitless flood churn scale fuzz lint generate check-generated release clean deps binaries images

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 18

deps:
	@scripts/deps.sh

binaries: deps
	@mkdir -p bin
	go build -ldflags "$(LDFLAGS)" -o bin/ ./cmd/...
	cd lab && go build -ldflags "-s -w" -o ../bin/ ./cmd/...

images: binaries
	go run ./tools/package images --bin bin --out build/images --arch $(ARCH) --epoch $(EPOCH)

build: images ## everything into bin/, images into build/images, the lab's big binaries into the cache
	bin/lab assets

demo: build ## EKS in a box with weft on it, tested, left running
	@scripts/demo.sh

test: build ## every tier that fits in 45 minutes
	go run ./test/tiers

e2e: build ## the walkthroughs on the lab: WALK=W1 for one, LANES=1 one after another
	go test -v -count=1 -timeout 38m -parallel 100 ./test/e2e -lanes $(LANES) -walk '$(WALK)'

kernels: deps ## the datapath in the verifiers of 6.1 and 6.12
	go run ./test/kernels

bpf-coverage: deps ## which C lines of the datapath its tests run, into build/bpf-coverage.txt
	go run ./test/bpfcover

conformance: $(if $(filter-out cni,$(SUITE)),build,binaries) ## specifications that others wrote: SUITE=services for Kubernetes' own tests
	@bin/lab assets >/dev/null || true
	@mkdir -p build && go build -o build/conformance ./test/conformance && build/conformance -suite '$(SUITE)' -only '$(ONLY)'

bench: build ## weft beside its peers, as ratios: ONLY=regex
	@mkdir -p build && go build -o build/bench ./test/bench && build/bench -only '$(ONLY)'

hitless: binaries ## traffic while agents are killed, restarted and replaced: TIME=5m
	@mkdir -p build && go build -o build/hitless ./test/hitless && build/hitless -time $(TIME) -report build/hitless.md

flood: binaries ## one pod floods small tables; who was there before stays
	@mkdir -p build && go build -o build/hitless ./test/hitless && build/hitless -flood -report build/flood.md

churn: binaries ## a service's backends replaced under traffic while agents are killed, restarted and upgraded: TIME=5m
	@mkdir -p build && go build -o build/hitless ./test/hitless && build/hitless -churn -time $(TIME) -report build/churn.md

scale: binaries ## the operator with 1,000 simulated nodes; an agent with 20,000 services
	@bin/lab assets >/dev/null
	@mkdir -p build && go build -o build/scale ./test/scale && build/scale && build/scale -services 20000

fuzz: ## every fuzz test for TIME each
	@scripts/fuzz.sh $(TIME) '$(ONLY)'

lint: deps ## formatting, vet, staticcheck, house rules
	@scripts/lint.sh

generate: deps ## deepcopy, CRDs, schemas, BPF objects
	go run sigs.k8s.io/controller-tools/cmd/controller-gen@v0.22.0 object paths=./api/... crd paths=./api/v1alpha1 output:crd:dir=api/crds
	go generate ./...

check-generated: deps
	@scripts/check-generated.sh

release: deps ## binaries, chart, image archives, checksums, SBOM into build/release
	go run ./tools/package release --out build/release --epoch $(EPOCH) --commit $(COMMIT)

clean: ## remove what the targets made (not the cache)
	rm -rf bin build
