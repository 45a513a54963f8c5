#!/usr/bin/env bash
# Measures what QSC does with a real redis-server on this machine, beside the least anyone could do with the same entries.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

usage() {
    cat <<'HELP'
benches/redis/run.sh gate|ingest|all [--events N]

  gate      qsc quality-gate over N intents (default: 1 000 000) beside a bare XRANGE sweep of the same pages
  ingest    qsc run over N events (default: 100 000) beside a bare loop that reads, adds and acknowledges the same payloads, and beside the
            kernel alone; and the time from an event to its intent
  all       everything above, with the defaults

Needs redis-server, cargo, and about 2 KB of memory per event. QSC_BENCH_PREFIX is put before the command of each measurement.
HELP
}

build() {
    cargo build --quiet --locked --profile ci -p qsc-cli -p qsc-benches --bins
}

gate() {
    # shellcheck disable=SC2086 # a prefix is a command with its arguments
    ${QSC_BENCH_PREFIX:-} target/ci/redis_gate --qsc target/ci/qsc "$@"
}

ingest() {
    # shellcheck disable=SC2086 # a prefix is a command with its arguments
    ${QSC_BENCH_PREFIX:-} target/ci/redis_run --qsc target/ci/qsc "$@"
}

main() {
    local part=${1:-}
    case $part in
        gate) shift && build && gate "$@" ;;
        ingest) shift && build && ingest "$@" ;;
        all) build && ingest && echo && gate ;;
        -h | --help) usage ;;
        *) usage >&2 && return 64 ;;
    esac
}

main "$@"
