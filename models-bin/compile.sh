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
"$qsc" model compile trained/xgb.ubj --output images/xgb.qsm --name xgb --classes HOLD,BUY,SELL
"$qsc" model compile trained/lgbm.txt --output images/lgbm.qsm --name lgbm --classes HOLD,BUY,SELL
for net in nhits patchtst; do
    "$qsc" model compile "trained/$net.safetensors" --config "trained/$net.json" --output "images/$net.qsm" --name "$net"
done
python3 train/manifest.py .
