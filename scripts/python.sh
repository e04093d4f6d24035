#!/usr/bin/env bash
# Checks the Python client: mypy --strict, its tests with every scenario of
# clients/conformance, and a wheel, built into build/python and imported in a
# fresh environment. Uses $PYTHON (python3), 3.9 or newer, and the program
# $ACCESSOR_BIN (built where it isn't set). Exit status 77: the tools that it needs
# from PyPI can't be had.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

python=${PYTHON:-python3}
command -v "$python" >/dev/null || scripts/deps.sh python3 python3-venv
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 9))' ||
  die "the Python client needs Python 3.9 or newer, here is $("$python" --version)"
# Debian's python comes without what makes environments.
"$python" -c 'import ensurepip' 2>/dev/null || scripts/deps.sh python3-venv

version=$("$python" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])')
venv=$PWD/build/venv/$version
# The tools, pinned; a mark says that they are all there.
tools=(mypy==1.19.1 setuptools==80.9.0 rocksdict==0.3.29)
mark=$venv/$(printf '%s+' "${tools[@]}")
if [ ! -e "$mark" ]; then
  say "making an environment of Python $version"
  rm -rf "$venv"
  "$python" -m venv "$venv"
  if ! "$venv/bin/pip" install -q --disable-pip-version-check --only-binary :all: "${tools[@]}"; then
    say "pip could not install ${tools[*]}"
    exit 77
  fi
  touch "$mark"
fi

program
export PYTHONDONTWRITEBYTECODE=1
export PYTHONPATH=$PWD/clients/python/src:$PWD/clients/python/tests

cd clients/python
say "mypy --strict"
"$venv/bin/mypy" --cache-dir "$venv/mypy" src/accessor_client tests examples bench.py

say "tests, by the blocking and the asyncio client side by side"
# Most of their time is waiting for servers.
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
run() { "$venv/bin/python" -m unittest -v "$@" >"$logs/$1${3:-}" 2>&1; }
pids=()
run test_conformance -k _blocking & pids+=($!)
run test_conformance -k _asyncio & pids+=($!)
run test_http test_hostile test_proof test_package & pids+=($!)
failed=0
for pid in "${pids[@]}"; do
  wait "$pid" || failed=1
done
cat "$logs"/*
[ $failed = 0 ] || die "tests failed: see above"
count=$(awk '/^Ran [0-9]+ tests/ { n += $2 } END { print n + 0 }' "$logs"/*)
say "$count tests passed, Python $version"

say "wheel"
out=$PWD/../../build/python
rm -rf "$out" "$venv/wheel"
mkdir -p "$out" "$venv/wheel"
# From a copy: setuptools leaves its own files beside the sources.
cp -R pyproject.toml README.md src ../../LICENSE "$venv/wheel/"
"$venv/bin/pip" wheel -q --disable-pip-version-check --no-build-isolation --no-deps -w "$out" "$venv/wheel"
unset PYTHONPATH
"$python" -m venv --without-pip "$venv/wheel/fresh"
cd /
"$venv/bin/pip" --disable-pip-version-check --python "$venv/wheel/fresh" install -q --no-index --no-deps "$out"/*.whl
"$venv/wheel/fresh/bin/python" -c '
import accessor_client, importlib.metadata as m, importlib.resources as r
assert m.version("accessor-client") == accessor_client.__version__ == "0.1.0"
assert not m.requires("accessor-client")
assert any(f.name == "LICENSE" for f in m.files("accessor-client"))
assert r.files("accessor_client").joinpath("py.typed").is_file()
print("imported", accessor_client.__file__)'
say "built $(cd "$out" && ls ./*.whl)"
