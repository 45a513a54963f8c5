#!/usr/bin/env bash
# Measures QSC and its peers on this machine, in one run, and writes benches/record/CPU/DATE.md. See benches/METHOD.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

usage() {
    cat <<'HELP'
benches/peers/run.sh [--only S1,N2] [--engines qsc,ydf] [--quick] [--retry] [--prepare]

  --only      shapes: S1 to S5 (trees), N1 to N4 (networks); default: all
  --engines   qsc, xgboost, lightgbm, lleaves, tl2cgen, onnxruntime, ydf, daal4py, openvino, tract, pytorch; default: all
  --quick     fewer and shorter repeats, for development: not to be quoted
  --retry     try again what could not be prepared in an earlier run
  --prepare   stop before measuring

Needs python3 with venv, gcc, g++, cargo, and about 10 GB below QSC_PEERS_DIR (default: target/peers), which is kept for the next
run. The first run trains the models and takes hours of one core; a later one measures only, in about a quarter of an hour.
QSC_PEERS_PREFIX is put before the command of each measurement.
HELP
}

readonly root=../..
QSC_PEERS_DIR=$(realpath --canonicalize-missing "${QSC_PEERS_DIR:-$root/target/peers}")
export QSC_PEERS_DIR
work=$QSC_PEERS_DIR

main() {
    local filters=() measured=() retry=() prepare_only='' argument
    while (($#)); do
        argument=$1
        shift
        case $argument in
            --only | --engines) filters+=("$argument" "${1:?$argument needs a list}") && shift ;;
            --quick) measured+=("$argument") ;;
            --retry) retry+=("$argument") ;;
            --prepare) prepare_only=1 ;;
            -h | --help) usage && return 0 ;;
            *) usage >&2 && return 64 ;;
        esac
    done
    mkdir -p "$work"

    local environment
    for environment in trees lleaves daal nets; do
        # What needs one that cannot be had is reported in the table.
        environment "$environment" || echo "the packages of requirements-$environment.txt could not be installed" >&2
    done
    build
    local peers=("$work/venv-trees/bin/python" peers.py)
    "${peers[@]}" prepare "${filters[@]}" "${retry[@]}"
    [[ -z $prepare_only ]] || return 0
    "${peers[@]}" measure "${filters[@]}" "${measured[@]}"
    "${peers[@]}" table "${filters[@]}" "${measured[@]}"
}

# Makes a Python environment, unless it has been made from these very pins.
environment() {
    local folder=$work/venv-$1 pins=requirements-$1.txt
    if cmp --silent "$pins" "$folder/pins.txt"; then
        return 0
    fi
    echo "installing $pins" >&2
    { [[ -x $folder/bin/python ]] || python3 -m venv "$folder"; } &&
        "$folder/bin/pip" install --quiet --disable-pip-version-check --requirement "$pins" &&
        cp "$pins" "$folder/pins.txt"
}

# The compiler of images and the programs that measure, from this tree. QSC itself must build; a peer that does not is reported.
build() {
    local driver profile
    cargo build --locked --quiet --profile ci --manifest-path "$root/Cargo.toml" --package qsc-cli --target-dir "$work/qsc-target"
    cp --force "$work/qsc-target/ci/qsc" "$work/qsc"
    for driver in driver-qsc driver-native driver-onnxruntime driver-tract; do
        profile=peer
        [[ $driver != driver-qsc ]] || profile=release
        # Not --locked: what the kernel depends on may have changed since; the peers' own versions stay.
        cargo build --quiet --profile "$profile" --manifest-path drivers/Cargo.toml --target-dir "$work/drivers" --package "$driver" ||
            { [[ $driver != driver-qsc ]] && echo "$driver does not build" >&2; }
    done
}

main "$@"
