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

# pip_install FOLDER ARGUMENTS...: quiet unless it fails
pip_install() {
  folder=$1; shift
  log=$(mktemp)
  if ! "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "$@" >"$log" 2>&1; then
    cat "$log" >&2; rm -f "$log"
    die "Installing failed; the lines above say why. Is the network up?"
  fi
  rm -f "$log"
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

# unchanged STAMP FILES...: is the stamp newer than all of them?
unchanged() {
  stamp=$1; shift
  [ -e "$stamp" ] || return 1
  for file in "$@"; do [ "$file" -nt "$stamp" ] && return 1; done
  return 0
}
