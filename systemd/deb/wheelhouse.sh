#!/bin/bash
# Fills dist/wheelhouse: all that an installation without a network needs beside Debian's packages, for both releases
# and both processors. Copy it to the Pi and run its systemd/install.sh. Every wheel is checked against its hash.
#
# usage: wheelhouse.sh PYTHON [FOLDER]       PYTHON: one with pip
set -euo pipefail
umask 022
cd "$(dirname "$0")/../.."
python=$1
house=${2:-dist/wheelhouse}
part=$house.part
export PIP_DISABLE_PIP_VERSION_CHECK=1
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 1700000000)}
export SOURCE_DATE_EPOCH

rm -rf "$part"
trap 'rm -rf "$part"' EXIT
mkdir -p "$part/wheels" "$part/systemd" "$part/docs" "$part/build/source"

fetch() { # RELEASE PYTHON_VERSION PROCESSOR
    local -a platforms=()
    local glibc
    for glibc in manylinux2014 manylinux_2_17 manylinux_2_27 manylinux_2_28 manylinux_2_34; do platforms+=(--platform "${glibc}_$3"); done
    echo "fetching the wheels for $1, $3"
    "$python" -m pip download --quiet --only-binary=:all: --no-deps --require-hashes --implementation cp \
        --python-version "$2" "${platforms[@]}" --dest "$part/wheels" --requirement "systemd/constraints-$1.txt"
}

for processor in aarch64 x86_64; do
    fetch bookworm 3.11 $processor
    fetch trixie 3.13 $processor
done

# Built from a copy, so that nothing is left in the tree and nothing old that lies there gets in.
cp -r edge trainer export systemd setup.py pyproject.toml README.md "$part/build/source"
find "$part/build/source" -name __pycache__ -prune -exec rm -r {} +
"$python" -m pip install --quiet --no-deps --require-hashes --target "$part/build/tools" \
    --requirement systemd/constraints-build.txt
PYTHONPATH=$part/build/tools "$python" -m pip wheel --quiet --no-index --no-deps --no-build-isolation \
    --wheel-dir "$part/wheels" "$part/build/source"
rm -r "$part/build"
wheel=$(basename "$part"/wheels/mien-*.whl)
printf 'mien==%s --hash=sha256:%s\n' "$(cut -d - -f 2 <<<"$wheel")" \
    "$(sha256sum "$part/wheels/$wheel" | cut -d ' ' -f 1)" >"$part/wheels/mien.txt"

cp systemd/install.sh systemd/mien.* systemd/constraints-*.txt "$part/systemd"
cp README.md LICENSE "$part"
cp docs/mien.toml "$part/docs"
rm -rf "$house"
mv "$part" "$house"
echo "$house: $(du -sh "$house" | cut -f 1), copy it to the Pi and run there: sudo systemd/install.sh"
