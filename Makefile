# make help shows what there is. Everything is done with the Go tool chain; only
# the integration tests want more, and "make tools" gets it.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help build deb run test tools fmt vet lint unit fuzz-short integration soak fuzz bench bench-go clean

GO ?= go
# How long each fuzz target runs in "make fuzz", and below which directory they are.
# Making an input smaller that is merely interesting may take longer than all else.
FUZZTIME ?= 20s
FUZZDIR ?= .
FUZZFLAGS ?= -fuzzminimizetime 5x
# How long "make soak" goes on.
TIME ?= 1m
# What "make bench" measures: repetitions, and names with commas between; all
# unless given. ARGS are options of bin/bench.
REPS ?= 7
PEERS ?=
MODES ?=
ARGS ?=

# Every step prints how long after the beginning of make it starts.
ifndef BEGIN
export BEGIN := $(shell date +%s)
endif
step = @printf '== %4ds  %s\n' "$$(($$(date +%s) - BEGIN))" "$(1)"

help:
	@echo 'Caddy as an IMAP proxy and as the password checker of Postfix.'
	@echo
	@echo 'Usage: make TARGET'
	@echo
	@echo '  build        build bin/caddy, a whole server with our modules in it'
	@echo '  deb          build bin/caddy-imap_VERSION_ARCH.deb, with units for systemd'
	@echo '  run          build it and start the demo: a backend in memory, the proxy before it'
	@echo '  test         everything below that must pass: tools, fmt, vet, lint, unit, fuzz-short, integration'
	@echo '  tools        as root, install the servers that the integration tests drive'
	@echo '  fmt          complain about files that gofmt would change'
	@echo '  vet          go vet for Linux, macOS, Windows, and for 32 bits'
	@echo '  lint         staticcheck, and govulncheck where its database can be reached'
	@echo '  unit         unit tests with the race detector; they need nothing but Go'
	@echo '  fuzz-short   run the fuzz targets of the protocols with 5000 inputs each'
	@echo '  integration  tests against a real Dovecot, Postfix, Redis and ACME server; they need root'
	@echo '  soak         everything at once, with faults, for TIME (now $(TIME)); it needs root'
	@echo '  fuzz         run every fuzz target for FUZZTIME (now $(FUZZTIME))'
	@echo '  bench        measure the server beside other proxies, for docs/performance.md; an hour'
	@echo '  bench-go     run the benchmarks of the packages'
	@echo '  clean        remove bin'
	@echo
	@echo 'Less of a bench: make bench REPS=1 PEERS=caddy,nginx MODES=login,noop'
	@echo '                 bin/bench --help has the names, and options for ARGS'
	@echo 'One test alone:  go test -race -run NAME ./internal/PACKAGE'
	@echo '                 go test -race -tags integration -run NAME ./integration'
	@echo '                 go test -race -tags integration -run NAME ./imapredis'
	@echo 'With CI=true nothing may be left out: a missing server is a failure.'

build:
	$(call step,building bin/caddy)
	@$(GO) build -o bin/caddy ./cmd/caddy

# Without C libraries, so that it runs on whatever machine it is installed on.
deb:
	$(call step,building a Debian package)
	@CGO_ENABLED=0 $(GO) build -trimpath -ldflags="-s -w" -o bin/caddy ./cmd/caddy
	@packaging/deb.sh --caddy bin/caddy

run: build
	@bin/caddy imap-proxy --demo

test: tools fmt vet lint unit fuzz-short integration
	$(call step,all passed)

tools:
	$(call step,looking for the servers that the integration tests drive)
	@integration/install.sh

fmt:
	$(call step,gofmt)
	@files=$$(gofmt -l $$(git ls-files '*.go' 2>/dev/null || find . -name '*.go')); \
	if [ -n "$$files" ]; then printf 'gofmt would change:\n%s\n' "$$files"; exit 1; fi

# The protocol packages hold the arithmetic on sizes, so 32 bits concern them;
# Caddy itself is checked for the systems that people run it on.
vet:
	$(call step,go vet)
	@$(GO) vet ./...
	@$(GO) vet -tags integration ./integration ./imapredis ./internal/guard ./internal/redistest
	$(call step,go vet for macOS)
	@GOOS=darwin $(GO) vet ./...
	$(call step,go vet for Windows)
	@GOOS=windows $(GO) vet ./...
	$(call step,go vet for 32 bits)
	@GOARCH=386 $(GO) vet ./internal/...

lint:
	$(call step,looking for faults with staticcheck and govulncheck)
	@GO=$(GO) .ci/lint

unit:
	$(call step,unit tests with the race detector)
	@$(GO) test -race -shuffle=on ./...
	$(call step,sessions cut off at each of their bytes)
	@$(GO) test -run '^TestCuts' ./caddyimap ./caddysasl

# Building a server takes minutes, so it is built once and all tests share it.
# In the directory, because only there go test shows what was left out. One test
# waits for five minutes: it does so beside the others.
WAITING = ^TestOAuth2Ends$$

integration:
	$(call step,building the server for the integration tests with the race detector)
	@$(GO) build -race -o bin/caddy-race ./cmd/caddy
	$(call step,building it as the image does, so that the image is quick to build)
	@CGO_ENABLED=0 $(GO) build -trimpath -ldflags="-s -w" -o /dev/null ./cmd/caddy
	$(call step,building the tools that they drive)
	@$(GO) build -C integration/tools -o $(CURDIR)/bin/ tool
	@[ -d integration/tools/imapflow/node_modules ] || ! command -v npm >/dev/null || npm ci --silent --ignore-scripts --prefix integration/tools/imapflow
	$(call step,the guard with Redis)
	@$(GO) test -race -shuffle=on -count=1 -tags integration ./imapredis
	@$(GO) test -race -count=1 -tags integration -run '^TestRedis' ./internal/guard
	$(call step,integration tests)
	@cd integration && export CADDY_BIN=$(CURDIR)/bin/caddy-race PEBBLE_BIN=$(CURDIR)/bin; \
	run() { $(GO) test -race -shuffle=on -count=1 -parallel 6 -timeout 30m -tags integration "$$@"; }; \
	run -run '$(WAITING)' >../bin/waiting.log 2>&1 & waiting=$$!; \
	failed=0; run -skip '$(WAITING)' || failed=1; \
	wait $$waiting || failed=1; cat ../bin/waiting.log; exit $$failed

# A minute of it, with the race detector, is among the integration tests.
soak: build
	$(call step,soak for $(TIME))
	@cd integration && CADDY_BIN=$(CURDIR)/bin/caddy SOAK_TIME=$(TIME) $(GO) test -count=1 -timeout 0 -tags integration -run '^TestSoak$$'

# Without the packages that have all of Caddy below them: with what a fuzzer adds to
# it, that takes minutes to compile. A number, and not a time, since a fuzzer that is
# stopped at a bad moment takes that for a failure.
fuzz-short:
	$(call step,fuzzing for a moment)
	@$(MAKE) --no-print-directory fuzz FUZZTIME=5000x FUZZDIR=internal

fuzz:
	@for file in $$(grep -rl --include='*_test.go' '^func Fuzz' $(FUZZDIR)); do \
		for name in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' $$file); do \
			printf '== %4ds  %s in %s\n' "$$(($$(date +%s) - BEGIN))" "$$name" "$$(dirname $$file)"; \
			$(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) $(FUZZFLAGS) "./$$(dirname $$file)"; \
		done; \
	done

# Tables of a part of it would not fit together with those that the page has.
bench: build
	$(call step,building bin/bench)
	@$(GO) build -o bin/bench ./bench
	$(call step,measuring)
	@bin/bench -reps $(REPS) -peers '$(PEERS)' -modes '$(MODES)' $(if $(PEERS)$(MODES)$(ARGS)$(filter-out 7,$(REPS)),,-page docs/performance.md) $(ARGS)

bench-go:
	$(call step,benchmarks)
	@$(GO) test -run '^$$' -bench . -benchmem ./...

clean:
	rm -rf bin
