#!/bin/bash
# Collects the wheels that `python -m benchmarks gpu` needs beside torch, torchaudio and numpy, for a machine without
# network and without compiler. usage: benchmarks/wheels.sh [FOLDER] [PYTHON VERSION], by default build/wheels 3.12
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-build/wheels} version=${2:-3.12}
limit=60000000
# What the parts import, and what that imports; torch brings filelock, fsspec, jinja2 and sympy.
names="accelerate huggingface_hub httpx2 httpcore2 anyio h11 idna truststore typing_extensions safetensors
       packaging psutil pyyaml tqdm jsonargparse docstring_parser typeshed_client attrs rich markdown-it-py mdurl pygments
       soundfile cffi pycparser soxr xxhash urllib3 tenacity"
platforms=()
for tag in manylinux_2_28 manylinux_2_27 manylinux_2_24 manylinux_2_17 manylinux2014 manylinux_2_12 manylinux2010 \
    manylinux_2_5 manylinux1; do
    platforms+=(--platform "${tag}_x86_64")
done
mkdir -p "$folder"
rm -f "$folder"/*.whl
# The versions that the project is tested with; the names of constraints.txt are compared without case and _ or -.
wanted=()
for name in $names; do
    line=$(sed 's/#.*//' constraints.txt | awk -F== -v name="$name" '
        function plain(text) { gsub("_", "-", text); return tolower(text) }
        plain($1) == plain(name) { print $0 }')
    [ -n "$line" ] || { echo "error: constraints.txt has no version of $name" >&2; exit 1; }
    wanted+=("$line")
done
"${PYTHON:-python3}" -m pip download --quiet --no-deps --only-binary=:all: --implementation cp \
    --python-version "$version" "${platforms[@]}" --dest "$folder" "${wanted[@]}"
wheels=("$folder"/*.whl)
bytes=$(cat "${wheels[@]}" | wc -c)
echo "$folder: ${#wheels[@]} wheels, $bytes bytes"
[ "$bytes" -le "$limit" ] || { echo "error: more than $limit bytes" >&2; exit 1; }
echo "there: python3 -m pip install -q --no-index --no-deps --target /tmp/site $folder/*.whl &&" \
    "PYTHONPATH=/tmp/site python3 -m benchmarks gpu"
