# make help lists the targets. Only Go, a C compiler and make are needed to
# build; .ci/run installs what the tests talk to (Debian).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build

GO      ?= go
CC      ?= cc
PREFIX  ?= /usr/local
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)

# A static binary runs on every distribution. Where the C library has no static
# half (Fedora without glibc-static, macOS) the binary is linked as usual, and
# where there is no C compiler at all it is built without libzstd.
LINKS_STATIC := $(shell echo 'int main(void){return 0;}' | $(CC) -static -x c -o /dev/null - 2>/dev/null && echo yes)
LINKS        := $(shell echo 'int main(void){return 0;}' | $(CC) -x c -o /dev/null - 2>/dev/null && echo yes)
export CGO_ENABLED ?= $(if $(LINKS),1,0)

TAGS    := netgo osusergo
LDFLAGS := -s -w -X main.stamped=$(VERSION)
ifeq ($(CGO_ENABLED)$(LINKS_STATIC),1yes)
TAGS    += static_build
LDFLAGS += -linkmode external -extldflags -static
endif
BUILD := $(GO) build -trimpath -buildvcs=false -tags '$(TAGS)' -ldflags '$(LDFLAGS)'

PACKAGES := ./cmd/... ./internal/...
COVERPKG := github.com/lighter-oci/lighter/cmd/...,github.com/lighter-oci/lighter/internal/...
TEST     := $(GO) test -timeout 20m -covermode=atomic -coverpkg=$(COVERPKG)

# The rooms that carry BuildKit run without the race detector: compiling all
# of BuildKit a second time for it costs more than it finds in foreign code.
PLAIN = $$($(GO) list $(PACKAGES) | grep -E '/cmd/|/engine/buildkit')
RACE  = $$($(GO) list $(PACKAGES) | grep -vE '/cmd/|/engine/buildkit')

# Tests that measure memory run without it: it takes five times as much itself.
# So do those that put much through one goroutine, where it has nothing to find
# and makes every byte cost ten times as much.
ALONE := ^Test(Memory|Bulk)
BULKY = $$(grep -rlE '^func Test(Memory|Bulk)' --include='*_test.go' internal | xargs -n1 dirname | sort -u | sed 's,^,./,')

# golangci-lint is pinned: another version finds other things. GOLANGCI_LINT names
# one that is built already.
GOLANGCI_LINT ?= $(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.12.2

.PHONY: build demo test test-race test-plain test-alone bench check cross install clean help FORCE

build: bin/lighter ## build bin/lighter (static where the C library allows)

bin/lighter: FORCE
	@mkdir -p bin
	$(BUILD) -o $@ ./cmd/lighter

demo: build ## build a six-stage example twice and push it to a local registry
	@hack/demo.sh

# Both halves at once: cmd/lighter mostly waits, for engines, daemons and
# registries, while the rooms compute.
test: ## run all tests, fuzz seeds included, and print the coverage
	@rm -f coverage.race coverage.plain coverage.alone coverage.out; failed=0; \
	$(MAKE) --no-print-directory -j2 test-race test-plain || failed=1; \
	$(MAKE) --no-print-directory test-alone || failed=1; \
	{ cat coverage.race; tail -q -n +2 coverage.plain coverage.alone; } > coverage.out; \
	$(GO) tool cover -func=coverage.out | awk 'END { print "coverage: " $$NF " of statements" }'; \
	[ $$failed = 0 ] || { echo "make test: failed, see FAIL above" >&2; exit 1; }

test-race:
	GORACE=suppressions=$(CURDIR)/hack/race.supp $(TEST) -race -skip='$(ALONE)' -coverprofile=coverage.race $(RACE)

test-plain:
	$(TEST) -coverprofile=coverage.plain $(PLAIN)

test-alone:
	$(TEST) -run='$(ALONE)' -coverprofile=coverage.alone $(BULKY)

bench: build ## compare builds with stock BuildKit and conversions with skopeo, on a 1 GB root file system
	@hack/bench.sh $(BENCHFLAGS)

check: cross ## format, vet, lint, shell scripts, go.mod, other systems
	@test -z "$$(gofmt -l cmd internal hack examples | tee /dev/stderr)" || { echo "gofmt: run gofmt -w on the files above" >&2; exit 1; }
	$(GO) vet ./...
	$(GO) mod tidy -diff
	$(GO) mod verify
	hack/changelog.sh --check
	@if command -v shellcheck >/dev/null; then shellcheck -x -e SC2317 .ci/run hack/*.sh action/*.sh; else echo "check: shellcheck is not installed, scripts not checked" >&2; fi
	$(GOLANGCI_LINT) run ./...

cross: ## build for macOS and Windows, and for Linux without a C compiler
	CGO_ENABLED=0 GOOS=darwin GOARCH=arm64 $(GO) build -o /dev/null ./cmd/lighter
	CGO_ENABLED=0 GOOS=windows GOARCH=amd64 $(GO) build -o /dev/null ./cmd/lighter
	CGO_ENABLED=0 GOOS=linux GOARCH=arm64 $(GO) build -o /dev/null ./cmd/lighter

install: build ## install bin/lighter into PREFIX/bin (/usr/local)
	install -D -m 0755 bin/lighter $(DESTDIR)$(PREFIX)/bin/lighter

clean: ## remove what the other targets wrote here
	rm -rf bin dist coverage.race coverage.plain coverage.alone coverage.out

help: ## print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
