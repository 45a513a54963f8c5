#!/usr/bin/env bash
# Builds the C library and installs it: kernel/capi/install.sh PREFIX
#
#   PREFIX/lib/libqsc.a                    one object; qsc_… are its only global symbols
#   PREFIX/lib/libqsc.so.1, libqsc.so      the same, its symbols under the version QSC_1
#   PREFIX/include/qsc.h, qsc.hpp          the ABI, and C++ owners for it
#   PREFIX/lib/pkgconfig/qsc.pc
#
# The shared library is linked from the archive: for a cdylib rustc hands the linker an anonymous version script of its own, beside which
# GNU ld refuses one that names versions, and gold and lld ignore it. A reachable panic would call a symbol that nobody defines: then nothing is installed.
set -euo pipefail

if (($# != 1)) || [[ $1 == -* ]]; then
    echo "usage: $0 PREFIX" >&2
    exit 64
fi
mkdir -p "$1"
prefix=$(realpath "$1")
cd "$(dirname "${BASH_SOURCE[0]}")"
readonly CC=${CC:-cc} NM=${NM:-nm} OBJCOPY=${OBJCOPY:-objcopy} AR=${AR:-ar}

# Cargo says where the archive is: that depends on settings, and an older one may lie elsewhere.
archive=$(cargo build --locked --package qsc-capi --profile capi --message-format=json-render-diagnostics |
    sed -nE 's/.*"([^"]*libqsc_capi\.a)".*/\1/p')
[[ -f $archive ]] || { echo "cargo does not tell where it put libqsc_capi.a" >&2; exit 1; }
metadata=$(cargo metadata --locked --format-version 1 --no-deps)
version=$(sed -nE 's/.*"name":"qsc-capi","version":"([^"]*)".*/\1/p' <<<"$metadata")
[[ -n $version ]] || { echo "cargo metadata does not tell the version of qsc-capi" >&2; exit 1; }
soname=libqsc.so.$(sed -nE 's/^#define QSC_ABI_VERSION ([0-9]+)$/\1/p' include/qsc.h)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# One object of what the ABI reaches; everything else is dropped, and so is every symbol but the ABI's.
keep=()
while read -r symbol; do
    keep+=("-Wl,--undefined=$symbol")
done < <(sed -nE 's/^ *(qsc_[a-z_]+);$/\1/p' qsc.map)
"$CC" -nostdlib -r -Wl,--gc-sections "${keep[@]}" -o "$work/qsc.o" "$archive"
# The panic handler's symbol leaves with the panic handler; it stays where that is still called.
"$OBJCOPY" --wildcard --keep-global-symbol='qsc_*' --strip-unneeded-symbol=qsc_panic_is_reachable "$work/qsc.o"
if "$NM" --undefined-only "$work/qsc.o" | grep -q qsc_panic_is_reachable; then
    echo "a panic is reachable in the library: it is not installed" >&2
    exit 1
fi
"$AR" rcsD "$work/libqsc.a" "$work/qsc.o"
"$CC" -shared -Wl,--version-script=qsc.map -Wl,-soname="$soname" -Wl,-z,defs -Wl,-z,relro,-z,now -Wl,--gc-sections \
    -o "$work/$soname" "$work/qsc.o"

install -d "$prefix/lib/pkgconfig" "$prefix/include"
install -m 644 "$work/libqsc.a" "$prefix/lib/libqsc.a"
install -m 755 "$work/$soname" "$prefix/lib/$soname"
ln -sf "$soname" "$prefix/lib/libqsc.so"
install -m 644 include/qsc.h include/qsc.hpp "$prefix/include/"
sed -e "s|@PREFIX@|$prefix|" -e "s|@VERSION@|$version|" qsc.pc.in >"$work/qsc.pc"
install -m 644 "$work/qsc.pc" "$prefix/lib/pkgconfig/qsc.pc"
echo "installed qsc $version to $prefix"
