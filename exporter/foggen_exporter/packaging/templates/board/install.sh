#!/bin/sh
# Installs foggen from the package this script lies in. Needs no network and no root.
#
# A new tree is copied beside the old one, verified and tried; only then a link is switched to it,
# in one step. Stopped at any point, what was installed before still runs, and running this again
# finishes the work.
set -u
umask 022

PACKAGE='@PACKAGE@'
ARCHITECTURE='@ARCHITECTURE@'
PYTHONS='@PYTHONS@'
GLIBC='@GLIBC@'
NEEDED_KIB=@NEEDED_KIB@
SUMS_SHA256='@SUMS_SHA256@'
BUNDLE_SHA256='@BUNDLE_SHA256@'

usage() {
  cat <<EOF
Usage: ./install.sh [--prefix DIR] [--python PATH]
       ./install.sh --uninstall [--prefix DIR]

Installs $PACKAGE in DIR/lib/foggen and the command DIR/bin/foggen.
DIR is \$HOME/.local unless said otherwise. Python must be CPython $PYTHONS;
without --python the newest of them on the PATH is taken.

Exit codes: 0 done, 1 not done (what was installed before still runs), 2 wrong usage.

Example:
  ./install.sh --prefix /opt/foggen
EOF
}

say() { printf '%s\n' "$*" >&2; }

die() {
  say "install.sh: $*"
  exit 1
}

wrong_usage() {
  say "install.sh: $*"
  usage >&2
  exit 2
}

parse() {
  prefix=${HOME:-}/.local python='' uninstall=no
  while [ $# -gt 0 ]; do
    case $1 in
      --prefix | --python) [ $# -gt 1 ] || wrong_usage "$1: needs a value" ;;
    esac
    case $1 in
      --prefix) prefix=$2 && shift ;;
      --prefix=*) prefix=${1#*=} ;;
      --python) python=$2 && shift ;;
      --python=*) python=${1#*=} ;;
      --uninstall) uninstall=yes ;;
      -h | --help) usage && exit 0 ;;
      *) wrong_usage "no such option: $1" ;;
    esac
    shift
  done
  case $prefix in
    /*) ;;
    '') wrong_usage "--prefix: must name a directory, is empty" ;;
    *) prefix=$(pwd -P)/$prefix ;;
  esac
  store=$prefix/lib/foggen
}

# Prints version, architecture, bits and C library of a Python; nothing if it does not run.
describe() {
  "$1" -c '
import os, struct, sys
try:
    libc = os.confstr("CS_GNU_LIBC_VERSION") or "unknown"
except (AttributeError, ValueError):
    libc = "unknown"
threads = "t" if "t" in getattr(sys, "abiflags", "") else ""
version = "%d.%d%s" % (sys.version_info[0], sys.version_info[1], threads)
print(sys.implementation.name, version, os.uname()[4], struct.calcsize("P") * 8, libc)
' 2>/dev/null
}

takes() {
  for wanted in $PYTHONS; do
    [ "$1" = "cpython $wanted" ] && return 0
  done
  return 1
}

find_python() {
  seen=
  names=$python
  [ -n "$names" ] || for version in $PYTHONS; do names="python$version $names"; done
  [ -n "$python" ] || names="$names python3"
  for name in $names; do
    path=$(command -v "$name" 2>/dev/null) || continue
    facts=$(describe "$path") || continue
    # shellcheck disable=SC2086 # split into words
    set -- $facts
    [ $# -ge 5 ] || continue
    seen="$seen $path ($1 $2);"
    if takes "$1 $2"; then
      python=$path machine=$3 bits=$4 libc="$5 ${6:-}"
      return 0
    fi
  done
  die "needs CPython $PYTHONS, found${seen:- none}
Install one beside the system's own, which stays as it is, e.g.
  Ubuntu 22.04:       apt install python3.11
  any distribution:   uv python install 3.11, or a build of python-build-standalone for
                      $ARCHITECTURE copied to the board and unpacked
and run: ./install.sh --python PATH/bin/python3.11"
}

check_python() {
  [ "$machine" = "$ARCHITECTURE" ] && [ "$bits" = 64 ] ||
    die "the package is for $ARCHITECTURE with 64 bits, $python is for $machine with $bits bits"
  case $libc in
    glibc\ *.*) ;;
    *) die "needs glibc $GLIBC or newer, $python runs on another C library ($libc)" ;;
  esac
  found=${libc#glibc }
  minor=${found#*.}
  minor=${minor%%[!0-9]*}
  [ "${found%%.*}" -gt "${GLIBC%%.*}" ] ||
    { [ "${found%%.*}" -eq "${GLIBC%%.*}" ] && [ "$minor" -ge "${GLIBC#*.}" ]; } ||
    die "needs glibc $GLIBC or newer, has $found: install a newer release of the system"
}

check_space() {
  below=$prefix
  while [ ! -d "$below" ]; do below=$(dirname "$below"); done
  free=$(df -Pk "$below" | awk 'NR == 2 { print $4 }')
  [ "${free:-0}" -ge "$NEEDED_KIB" ] ||
    die "needs $((NEEDED_KIB / 1024 + 1)) MiB free at $below, has $((${free:-0} / 1024)) MiB"
}

# Fails unless every file of the package is in directory $1 as it was made.
verify() (
  cd "$1" || exit 1
  [ -f SHA256SUMS ] || { say "SHA256SUMS is missing" && exit 1; }
  printf '%s  SHA256SUMS\n' "$SUMS_SHA256" | sha256sum -c >/dev/null 2>&1 || { say "SHA256SUMS was altered" && exit 1; }
  bad=$(sha256sum -c SHA256SUMS 2>/dev/null | grep -v ': OK$' | head -n 5)
  [ -z "$bad" ] || { say "$bad" && exit 1; }
)

# rename(2), which mv does not offer: it would move into a directory that a link names.
rename() { "$python" -c 'import os, sys; os.replace(sys.argv[1], sys.argv[2])' "$1" "$2"; }

link() {
  rm -f "$2.new" && ln -s "$1" "$2.new" && rename "$2.new" "$2"
}

# Removes what earlier runs that were stopped, and earlier versions, left behind.
tidy() {
  kept=$(readlink "$store/current" 2>/dev/null)
  for tree in "$store"/versions/* "$store"/versions/.staging.*; do
    [ -e "$tree" ] || continue
    [ "versions/${tree##*/}" = "$kept" ] || rm -rf "$tree"
  done
}

is_installed() {
  [ -f "$store/current/SHA256SUMS" ] && [ -h "$prefix/bin/foggen" ] &&
    [ "$(cat "$store/current/interpreter" 2>/dev/null)" = "$python" ] &&
    verify "$store/current" 2>/dev/null && "$prefix/bin/foggen" --version >/dev/null 2>&1
}

fill() {
  cp -R "$here/." "$staging/" || die "cannot copy to $staging"
  chmod -R u=rwX,go=rX "$staging" || die "cannot set permissions in $staging"
  say 'Verifying'
  verify "$staging" || die "the package is damaged: unpack or download it again"
  printf '%s\n' "$python" >"$staging/interpreter" || die "cannot write to $staging"
  sed -e "s|@PREFIX@|$prefix|g" "$here/foggen.service" >"$staging/installed.service" ||
    die "cannot write to $staging"
  say 'Compiling'
  "$python" -m compileall -q --invalidation-mode unchecked-hash -s "$staging" -p "$tree" \
    "$staging/lib" >/dev/null || die "cannot compile in $staging"
  say 'Trying'
  "$staging/bin/foggen" --version >/dev/null || die "the copy does not start with $python"
  PYTHONPATH=$staging/lib "$python" -S -c \
    'import foggen_runtime.cloud.client, foggen_runtime.model.engine, foggen_runtime.text.tokenizer' ||
    die "the copy does not load with $python"
  [ ! -d "$staging/bundle" ] || "$staging/bin/foggen" inspect "$staging/bundle" >/dev/null ||
    die "the bundle cannot be used"
}

install_package() {
  [ ! -e "$prefix/bin/foggen" ] && [ ! -h "$prefix/bin/foggen" ] ||
    [ "$(readlink "$prefix/bin/foggen")" = ../lib/foggen/current/bin/foggen ] ||
    die "$prefix/bin/foggen belongs to another installation: choose another --prefix"
  find_python
  check_python
  if is_installed; then
    tidy
    say "$PACKAGE is already installed in $store"
    return
  fi
  check_space
  mkdir -p "$store/versions" "$prefix/bin" || die "cannot write to $prefix"
  tidy
  staging=$(mktemp -d "$store/versions/.staging.XXXXXX") || die "cannot write to $store"
  tree=$store/versions/$PACKAGE.${staging##*.}
  trap 'rm -rf "$staging"' EXIT
  trap 'exit 1' HUP INT TERM
  say "Copying to $store"
  fill
  sync
  mv "$staging" "$tree" || die "cannot rename $staging"
  link "versions/${tree##*/}" "$store/current" || die "cannot switch to $tree"
  link ../lib/foggen/current/bin/foggen "$prefix/bin/foggen" || die "cannot write to $prefix/bin"
  sync
  tidy
  report
}

report() {
  say "Installed $PACKAGE with $python"
  bundle=$store/current/bundle
  if [ ! -d "$bundle" ]; then
    bundle=$store/bundle
    say "The model is not in this package. Fetch it:
  $prefix/bin/foggen fetch URL -o $bundle --sha256 $BUNDLE_SHA256"
  fi
  say "Try: $prefix/bin/foggen ask $bundle 'Which is larger? A) 3 B) 5'"
  say "To run it as a service, see $store/current/README.md"
}

uninstall() {
  [ -h "$store/current" ] || [ -d "$store/versions" ] || die "no foggen is installed in $prefix"
  # The link first: from here on nothing starts.
  rm -f "$store/current" || die "cannot remove $store/current"
  if [ "$(readlink "$prefix/bin/foggen")" = ../lib/foggen/current/bin/foggen ]; then
    rm -f "$prefix/bin/foggen" || die "cannot remove $prefix/bin/foggen"
  fi
  rm -rf "$store/versions" || die "cannot remove $store/versions"
  rm -f "$store"/*.new "$prefix/bin/foggen.new"
  rmdir "$store" "$prefix/lib" "$prefix/bin" "$prefix" 2>/dev/null
  say "Removed foggen from $prefix"
  [ ! -d "$store" ] || say "Kept: $store"
}

main() {
  parse "$@"
  here=$(cd "$(dirname "$0")" && pwd -P) || die "cannot find the package"
  if [ "$uninstall" = yes ]; then
    uninstall
  else
    install_package
  fi
}

main "$@"
