#!/usr/bin/env bash
# Builds QSC and its peers on microcontrollers with the same models and rows, runs them on a Cortex-M4F in QEMU, and prints the tables.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

usage() {
    cat <<'HELP'
benches/embedded/run.sh [--only T10,N1]

  --only   shapes: T10, T90, T99 (trees), N1 (a network); default: all

Needs python3 with venv, git, cargo with the target thumbv7em-none-eabihf, gcc-arm-none-eabi with newlib and libstdc++, qemu-system-arm, and
about 4 GB below QSC_PEERS_DIR (default: target/peers), which is kept for the next run. QSC_BIN is a `qsc` to use instead of one built here.
HELP
}

readonly root=../..
QSC_PEERS_DIR=$(realpath --canonicalize-missing "${QSC_PEERS_DIR:-$root/target/peers}")
readonly work=$QSC_PEERS_DIR/embedded

main() {
    local filters=()
    while (($#)); do
        case $1 in
            --only) filters=(--only "${2:?--only needs a list}") && shift 2 ;;
            -h | --help) usage && return 0 ;;
            *) usage >&2 && return 64 ;;
        esac
    done
    mkdir -p "$work/models" "$work/sources"
    environment trees
    environment nets
    # As TensorFlow Lite Micro's own download scripts pin them.
    source_tree tensorflow/tflite-micro 90b983c2b3f1480642e040bbd2ddb37b998f3424
    source_tree ARM-software/CMSIS-NN 4ab83cc3cc98fb85ed6dafb55e8ca02f1628dcae
    source_tree google/flatbuffers 187240970746d00bbd26b0f5873ed54d2477f9f3
    source_tree google/gemmlowp 719139ce755a0f31cbf1c37f7f98adcc7fc9f425
    source_tree google/ruy d37128311b445e758136b8602d1bbd2a755e115d
    models trees
    models nets
    "$work/venv-trees/bin/python" measure.py "$work" "$(compiler)" "${filters[@]}"
}

# Makes a Python environment, unless it has been made from these very pins.
environment() {
    local folder=$work/venv-$1 pins=requirements-$1.txt
    cmp --silent "$pins" "$folder/pins.txt" && return 0
    echo "installing $pins" >&2
    [[ -x $folder/bin/python ]] || python3 -m venv "$folder"
    "$folder/bin/pip" install --quiet --disable-pip-version-check --requirement "$pins"
    cp "$pins" "$folder/pins.txt"
}

# A repository at a commit. What cannot be had is reported in the row that needs it.
source_tree() {
    local folder=$work/sources/${1#*/}
    [[ $(git -C "$folder" rev-parse HEAD 2>/dev/null) != "$2" ]] || return 0
    { [[ -d $folder/.git ]] || git clone --quiet --no-checkout "https://github.com/$1" "$folder"; } &&
        git -C "$folder" checkout --quiet "$2" || echo "$1 could not be fetched" >&2
}

# Trains and converts, unless that was done by this very script.
models() {
    cmp --silent "$1.py" "$work/models/$1.py" && return 0
    echo "training and converting: $1" >&2
    "$work/venv-$1/bin/python" "$1.py" "$work/models" >"$work/models/$1.log" 2>&1 ||
        { tail -n 5 "$work/models/$1.log" >&2 && return 1; }
    cp "$1.py" "$work/models/$1.py"
}

# The program that makes images.
compiler() {
    if [[ -n ${QSC_BIN:-} ]]; then
        realpath "$QSC_BIN"
        return
    fi
    cargo build --locked --quiet --profile ci --manifest-path "$root/Cargo.toml" --package qsc-cli --target-dir "$work/qsc-target" >&2
    echo "$work/qsc-target/ci/qsc"
}

main "$@"
