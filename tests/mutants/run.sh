#!/usr/bin/env bash
# Breaks every promise once: tests/mutants/run.sh [NAME…]
#
# Each patch here is applied alone to a copy of the last commit, and the test it names must then fail with the words it names. A
# patch that does not apply, build or fail is an error. docs/proofs.md is the table of them. A patch begins with
#
#   claim: what is promised
#   test:  what `cargo test` is given
#   fails: words of the failure
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
patches=$PWD/tests/mutants
copy=$(realpath -m "${CARGO_TARGET_DIR:-target}/mutants")
# What is built here is broken: it must never lie where anybody takes it for the real thing.
export CARGO_TARGET_DIR=$copy/target QSC_BIN=$copy/target/debug/qsc
# Only the failure counts; a report of its own would cost time.
export RUST_BACKTRACE=0 CARGO_TERM_COLOR=never

# Each patch is built once and run for seconds.
p=profile.dev.package
readonly quick=(--locked --config "$p.qsc-kernel.opt-level=1" --config "$p.qsc-cli.opt-level=0" --config "$p.qsc-tests.opt-level=0")

field() { sed -n "/^diff /q; s/^$1: *//p" "$2"; }

prepare() {
    local commit
    commit=$(git rev-parse HEAD)
    # Uncommitted changes are not in the copy.
    git diff --quiet HEAD -- . ':!tests/mutants' ':!docs' || echo "note: uncommitted changes are left out"
    [[ -d $copy/.git ]] || git clone --quiet --shared --no-checkout . "$copy"
    git -C "$copy" fetch --quiet "$PWD" HEAD
    # Touches only what differs, so that a second run builds little.
    git -C "$copy" checkout --quiet --force --detach "$commit"
}

# Says how the test of a patch took it; fails unless it failed as it should.
mutate() {
    local patch=$1 test words output status=0
    test=$(field test "$patch") words=$(field fails "$patch")
    git -C "$copy" apply "$patch" || { echo "does not apply any more"; return 1; }
    # shellcheck disable=SC2086 # the words of the arguments
    output=$(cd "$copy" && build "$test" 2>&1 && cargo test "${quick[@]}" $test 2>&1) || status=$?
    git -C "$copy" checkout --quiet --force .
    if ((status == 0)); then
        echo "NOT NOTICED: cargo test $test passed"
    elif ! grep -q '^test result: FAILED' <<<"$output"; then
        tail -n 30 <<<"$output"
        echo "no test ran"
    elif ! grep -qF -- "$words" <<<"$output"; then
        grep -vE '^(test |running|$)' <<<"$output" | tail -n 30
        echo "failed otherwise than with \`$words\`"
    else
        echo noticed
        return 0
    fi
    return 1
}

# Tests of the binary find it built; with the test, or Cargo would build its dependencies with other features once more.
build() {
    [[ $1 != "--workspace --test "* ]] || cargo build "${quick[@]}" --workspace --bin qsc --test "$(cut -d' ' -f3 <<<"$1")"
}

prepare
failed=0 names=("$@")
if ((${#names[@]} == 0)); then
    for patch in "$patches"/*.patch; do names+=("$(basename "$patch" .patch)"); done
fi
for name in "${names[@]}"; do
    start=$SECONDS
    verdict=$(mutate "$patches/$name.patch") || failed=$((failed + 1))
    printf '%-34s %4d s  %s\n' "$name" $((SECONDS - start)) "$verdict"
done
echo "${#names[@]} promises broken, $failed not noticed as they should"
((failed == 0))
