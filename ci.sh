#!/usr/bin/env bash
# The one script for people and CI: ./ci.sh runs everything, ./ci.sh JOB… runs single jobs, ./ci.sh help lists them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

readonly jobs=(setup fmt clippy docs test bits nostd demo bench-guard fuzz-short)
# A job that could not run on this machine ends with this code (EX_TEMPFAIL).
readonly skipped=75
# Targets without std, the preferred one first.
readonly bare_targets=(thumbv7em-none-eabihf x86_64-unknown-none)

usage() {
    cat <<'HELP'
./ci.sh            runs all jobs in this order
./ci.sh JOB…       runs these

  setup    installs what is missing: Redis, git, strace, OpenSSL, systemd with D-Bus, Chromium, promtool, valgrind, compilers and their tools by apt, a target
           without std by rustup
  fmt      formatting of Rust and, where shellcheck is at hand, the scripts
  clippy   lints of all crates and of every feature of the kernel; a warning fails
  docs     documentation of all crates; a warning fails
  test     all tests of all crates
  bits     pinned output bits once more: optimized, and with FMA and AVX2 switched on for the whole build
  nostd    builds the kernel, with and without its features, for a target without std
  demo     runs the demo and looks for the reports it must write
  bench-guard  counts instructions of the hot functions under valgrind; 2 % more than benches/guard.toml fails.
               QSC_GUARD_UPDATE=1 writes that file anew
  fuzz-short  ten seconds of every fuzz target, with nightly and cargo-fuzz

by name only:
  embedded firmware for Cortex-M4F, M3 and M0 under QEMU: outputs must be those of this machine, no panic linked, no allocator; sizes, stacks and
           instructions within 2 % of tests/firmware/FOOTPRINT.toml. QSC_GUARD_UPDATE=1 writes that file anew
  arm64    kernel and identity tests for AArch64 under QEMU; all output bits must be those of this machine
  deny     licences, sources and duplicates of all dependencies, by cargo-deny; advisories where their database is reachable
  fuzz     QSC_FUZZ_SECONDS (600) of every fuzz target, as many at once as there are cores: an hour on two; QSC_FUZZ_TARGETS="image rows" are these alone
  miri     the kernel's unit tests, thinned, under Miri: on the scalar and the portable backend, then on AVX2; five minutes
  chaos    kills consumers, connections and servers by the hundred under `qsc run`: ten minutes
  mutants  breaks every promise in the table of docs/proofs.md once, in a copy, and expects the named test to fail: half an hour
  peers    measures QSC beside other engines (hours the first time, then a quarter of an hour): benches/METHOD.md

QSC_REQUIRE_ALL=1  what cannot run here fails instead of being skipped
HELP
}

# Ends the job: as skipped, or as failed where everything is required.
skip() {
    echo "SKIPPED: $*" >&2
    [[ ${QSC_REQUIRE_ALL:-} == 1 ]] && exit 1
    exit "$skipped"
}

has() { command -v "$1" >/dev/null 2>&1; }

job_setup() {
    has cargo || { echo "cargo is missing: install Rust with rustup (https://rustup.rs)" >&2; exit 1; }
    local packages=() absent=() target
    has redis-server || packages+=(redis-server)
    has git || packages+=(git)
    has strace || packages+=(strace)
    has openssl || packages+=(openssl)
    has cc || packages+=(gcc libc6-dev)
    has c++ || packages+=(g++)
    has pkg-config || packages+=(pkgconf)
    has objcopy || packages+=(binutils)
    has valgrind || packages+=(valgrind)
    has chromium || packages+=(chromium)
    has promtool || packages+=(prometheus)
    [[ -x /usr/lib/systemd/systemd ]] || packages+=(systemd)
    has dbus-daemon || packages+=(dbus)
    has nsenter && has setpriv || packages+=(util-linux)
    if ((${#packages[@]})); then
        echo "installing: ${packages[*]}"
        install_packages "${packages[@]}" || absent+=("${packages[@]}")
    fi
    if ! bare_target >/dev/null && has rustup; then
        for target in "${bare_targets[@]}"; do
            rustup target add "$target" && break
            echo "rustup cannot add $target" >&2
        done
    fi
    target=$(bare_target) || absent+=("a target without std")
    ((${#absent[@]} == 0)) || skip "absent and not installable here: ${absent[*]}; what needs them will say so"
    echo "all there: $(cargo --version), $(git --version), $(redis-server --version | cut -d' ' -f1-3), $target"
}

install_packages() {
    local as_root=()
    has apt-get || { echo "there is no apt-get here" >&2; return 1; }
    if ((EUID != 0)); then
        if ! sudo -n true 2>/dev/null; then
            echo "this needs root, or sudo without a password" >&2
            return 1
        fi
        as_root=(sudo -n)
    fi
    "${as_root[@]}" apt-get update -qq || echo "apt-get update failed: trying with the lists that are there" >&2
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
}

# The first installed target without std.
bare_target() {
    local target
    for target in "${bare_targets[@]}"; do
        if [[ -d $(rustc --print target-libdir --target "$target") ]]; then
            echo "$target"
            return
        fi
    done
    return 1
}

job_fmt() {
    cargo fmt --all --check
    local workspace
    for workspace in tests/firmware tests/fuzz benches/peers/drivers benches/embedded/firmware; do
        cargo fmt --manifest-path $workspace/Cargo.toml --all --check
    done
    if has shellcheck; then
        # What Git keeps: no build output.
        git ls-files -z '*.sh' .ci/run | xargs -0 shellcheck
    else
        echo "shellcheck is not here: the scripts are not checked"
    fi
}

job_clippy() {
    cargo clippy --locked --workspace --all-targets -- -D warnings
    cargo clippy --locked --package qsc-kernel --all-features -- -D warnings
    cargo clippy --locked --package qsc-kernel --no-default-features -- -D warnings
}

job_docs() {
    RUSTDOCFLAGS="${RUSTDOCFLAGS:-} -D warnings" cargo doc --locked --workspace --no-deps
}

job_test() {
    # Tests of the binary run this one. Built with the tests: alone, its dependencies would have other features and be built twice.
    cargo build --locked --workspace --lib --bins --tests --examples
    QSC_BIN=$(realpath "${CARGO_TARGET_DIR:-target}/debug/qsc") cargo test --locked --workspace --no-fail-fast
}

job_bits() {
    local run=(cargo test --locked --profile ci --package qsc-kernel --lib --test bundled_bits -- bits)
    "${run[@]}"
    grep -qw fma /proc/cpuinfo 2>/dev/null || skip "this machine has no FMA"
    # A target directory of its own: other flags rebuild what the first run has built.
    RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+fma,+avx2" CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/fma" "${run[@]}"
}

job_nostd() {
    local target
    target=$(bare_target) || skip "no target without std is installed: ./ci.sh setup, or rustup target add"
    cargo build --locked --package qsc-kernel --target "$target"
    cargo build --locked --package qsc-kernel --target "$target" --all-features
    cargo build --locked --package qsc-kernel --target "$target" --no-default-features
    soft_floats_touch_no_register
}

# A kernel for soft floats, as in an operating system, must leave the float registers to others.
soft_floats_touch_no_register() {
    local target=x86_64-unknown-none listing
    [[ -d $(rustc --print target-libdir --target "$target") ]] || { echo "$target is not installed: its instructions are not looked at"; return; }
    listing=$(mktemp)
    cargo rustc --locked --package qsc-kernel --lib --target "$target" -- --emit "asm=$listing" -C codegen-units=1
    grep -q 'qsc_kernel' "$listing" || { echo "the kernel for $target gave no listing" >&2; exit 1; }
    if grep -m 3 -E 'mxcsr|%?xmm' "$listing"; then
        echo "the kernel for $target touches float registers" >&2
        exit 1
    fi
    rm -f "$listing"
}

job_demo() {
    local before extension
    before=$(mktemp)
    cargo run --locked --profile ci -- demo
    for extension in md json; do
        if [[ -z $(find reports/demo -name "*.$extension" -newer "$before" 2>/dev/null) ]]; then
            rm -f "$before"
            echo "the demo wrote no .$extension report into reports/demo" >&2
            exit 1
        fi
    done
    rm -f "$before"
}

job_bench-guard() {
    has valgrind || skip "valgrind is not here: ./ci.sh setup, or apt-get install valgrind"
    grep -qw avx2 /proc/cpuinfo 2>/dev/null || skip "this machine has no AVX2: benches/guard.toml counts it"
    cargo run --locked --profile ci --package qsc-benches --bin guard
}

job_embedded() {
    local target
    has qemu-system-arm || install_packages qemu-system-arm \
        || skip "no qemu-system-arm, and it cannot be installed here: neither Cortex-M4F nor M0 was run"
    for target in thumbv7em-none-eabihf thumbv6m-none-eabi; do
        [[ -d $(rustc --print target-libdir --target "$target") ]] || { has rustup && rustup target add "$target"; } \
            || skip "the target $target is not installed, and rustup cannot add it: nothing was run"
    done
    # A target directory of its own: the test of what links has its programs beside it.
    CARGO_TARGET_DIR=$(realpath -m "${CARGO_TARGET_DIR:-target}")/firmware cargo run --locked \
        --manifest-path tests/firmware/Cargo.toml --package qsc-firmware-check
}

job_arm64() {
    local target=aarch64-unknown-linux-gnu linker=aarch64-linux-gnu-gcc run=() here there
    local libraries=/usr/aarch64-linux-gnu
    if ! has qemu-aarch64 || ! has "$linker" || [[ ! -d $libraries/lib ]]; then
        install_packages qemu-user gcc-aarch64-linux-gnu libc6-dev-arm64-cross \
            || skip "no qemu-aarch64 or no $linker, and they cannot be installed here"
    fi
    if [[ ! -d $(rustc --print target-libdir --target "$target") ]]; then
        { has rustup && rustup target add "$target"; } || skip "the target $target is not installed, and rustup cannot add it"
    fi
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=$linker
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L $libraries"
    cargo test --locked --target "$target" --package qsc-kernel --lib
    run=(cargo test --locked --package qsc-tests --test identity)
    here=$("${run[@]}" -- --nocapture) || { echo "$here"; exit 1; }
    there=$("${run[@]}" --target "$target" -- --nocapture) || { echo "$there"; exit 1; }
    grep -E '^(tiers run|digest)' <<<"$here"
    grep -E '^(tiers run|digest)' <<<"$there"
    if [[ $(digest <<<"$here") != "$(digest <<<"$there")" ]]; then
        echo "AArch64 gives other bits than this machine" >&2
        exit 1
    fi
}

# The digests the identity tests printed; nothing is no digest.
digest() { grep -oE '^digest of [a-z ]+: [0-9a-f]{64}$' | sort; }

job_chaos() {
    has redis-server || skip "redis-server is not here: ./ci.sh setup, or apt-get install redis-server"
    QSC_CHAOS=long cargo test --locked --profile ci --package qsc-tests --test chaos -- --nocapture
}

# The toolchain is pinned to a stable one: what needs nightly names it.
nightly() { has rustup && rustup run nightly "$@"; }

# Installs a cargo subcommand if it is missing.
need_cargo() {
    has "cargo-$1" && return
    echo "installing cargo-$1"
    cargo install --locked --quiet "cargo-$1" || skip "cargo-$1 is not here and cannot be installed"
}

# Without the address sanitizer, which doubles the time of the build: `fuzz` has it.
job_fuzz-short() {
    QSC_FUZZ_SECONDS=${QSC_FUZZ_SECONDS:-10} QSC_FUZZ_SANITIZER=${QSC_FUZZ_SANITIZER:-none} job_fuzz
}

job_fuzz() {
    local root=tests/fuzz seconds=${QSC_FUZZ_SECONDS:-600} binaries targets=() lock
    nightly cargo --version >/dev/null 2>&1 \
        || skip "no nightly toolchain (rustup toolchain install nightly): the targets ran over their seeds only (test fuzz_corpus)"
    need_cargo fuzz
    read -ra targets <<<"${QSC_FUZZ_TARGETS:-$(nightly cargo fuzz list --fuzz-dir "$root" | tr '\n' ' ')}"
    # cargo fuzz has no --locked.
    lock=$(sha256sum "$root/Cargo.lock")
    nightly cargo fuzz build --fuzz-dir "$root" --target-dir "$root/target" --sanitizer "${QSC_FUZZ_SANITIZER:-address}"
    if [[ $lock != "$(sha256sum "$root/Cargo.lock")" ]]; then
        echo "$root/Cargo.lock was behind the crates: it is mended now, commit it" >&2
        exit 1
    fi
    binaries=$root/target/$(rustc -vV | sed -n 's/^host: //p')/release
    # Scratch files of the targets need no disk.
    [[ -w /dev/shm ]] && export TMPDIR=/dev/shm
    export -f fuzz_target
    # shellcheck disable=SC2016 # the inner shell's words
    if ! printf '%s\n' "${targets[@]}" \
        | xargs -P "$(nproc)" -I TARGET bash -c 'fuzz_target "$@"' _ TARGET "$root" "$binaries/TARGET" "$seconds"; then
        echo "findings are in $root/artifacts; mended, their inputs belong into $root/regressions/TARGET" >&2
        exit 1
    fi
}

# Runs one target and says how it ended. It writes its seeds before it starts. No input may take half a minute, 256 MiB at once or
# 512 MiB in all.
fuzz_target() {
    local target=$1 root=$2 binary=$3 seconds=$4 found=$2/artifacts/$1 status=0
    mkdir -p "$root/corpus/$target" "$root/target/seeds/$target" "$found"
    QSC_FUZZ_SEEDS=$root/target/seeds/$target ASAN_OPTIONS=quarantine_size_mb=64 "$binary" "$root/corpus/$target" "$root/target/seeds/$target" \
        -artifact_prefix="$found/" -max_total_time="$seconds" -timeout=30 -malloc_limit_mb=256 -rss_limit_mb=512 \
        -use_value_profile=1 -print_final_stats=1 >"$found.log" 2>&1 || status=1
    printf -- '-- %s, %s s\n%s\n' "$target" "$seconds" "$(grep -aE 'DONE|panicked|ERROR|SUMMARY' "$found.log" || tail -3 "$found.log")"
    return "$status"
}

job_miri() {
    nightly cargo miri --version >/dev/null 2>&1 || skip "Miri is not here: rustup toolchain install nightly --component miri,rust-src"
    nightly cargo miri test --locked --package qsc-kernel --lib
    # Miri knows no CPUID: it has AVX2 where it is told so, and SHA, without which an image's digest takes minutes.
    RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+avx2,+bmi1,+bmi2,+lzcnt,+popcnt,+sha" CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/miri-avx2" \
        nightly cargo miri test --locked --package qsc-kernel --lib -- identity trees detect decision
}

job_deny() {
    need_cargo deny
    cargo deny --all-features check --hide-inclusion-graph bans licenses sources
    cargo deny --all-features check --hide-inclusion-graph advisories && return
    cargo deny fetch >/dev/null 2>&1 && exit 1
    skip "the advisory database cannot be reached: licences, sources and duplicates hold, advisories were not looked at"
}

job_mutants() {
    tests/mutants/run.sh
}

job_peers() {
    benches/peers/run.sh
}

main() {
    local chosen=("${jobs[@]}") summary=() failed=0 job status start
    case ${1:-} in
        help | -h | --help) usage; return 0 ;;
        '') ;;
        *) chosen=("$@") ;;
    esac
    for job in "${chosen[@]}"; do
        if ! declare -F "job_$job" >/dev/null; then
            echo "there is no job \`$job\`: ./ci.sh help lists them" >&2
            return 64
        fi
    done
    # One build of everything from nothing gains nothing from incremental state.
    [[ -z ${CI:-} ]] || export CARGO_INCREMENTAL=0

    for job in "${chosen[@]}"; do
        printf '\n==> %s\n' "$job"
        start=$SECONDS
        # A condition around the job would switch `set -e` off inside it.
        set +e
        (set -e; "job_$job")
        status=$?
        set -e
        case $status in
            0) status=ok ;;
            "$skipped") status=SKIPPED ;;
            *) status="FAILED ($status)" failed=1 ;;
        esac
        summary+=("$(printf '%-11s %4d s  %s' "$job" $((SECONDS - start)) "$status")")
        printf '<== %s\n' "${summary[-1]}"
    done
    printf '\n'
    printf '%s\n' "${summary[@]}"
    return "$failed"
}

main "$@"
