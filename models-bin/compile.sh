#!/usr/bin/env bash
# Compiles the trained files into images/ and writes MANIFEST.toml: the same bytes from the same trained files.
# usage: models-bin/compile.sh [path of a qsc binary]
set -euo pipefail
cd "$(dirname "$0")"
qsc=${1:-}
if [ -z "$qsc" ]; then
    cargo build --quiet --release --package qsc-cli --bin qsc
    qsc=../target/release/qsc
fi
mkdir -p images
image() {
    "$qsc" model compile "$2" --name "$1" --output "images/$1.qsm" --calibrate "trained/training_$1.npy" "${@:3}"
}
image xgb trained/xgb.ubj --classes HOLD,BUY,SELL
image lgbm trained/lgbm.txt --classes HOLD,BUY,SELL
for net in nhits patchtst; do
    image "$net" "trained/$net.safetensors" --config "trained/$net.json"
done
python3 train/manifest.py .
