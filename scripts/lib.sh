# shellcheck shell=bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Shared by the other scripts, which source it.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# Prints each argument as a line of an error message, and ends the script.
die() {
  printf 'error: %s\n' "$1" >&2
  shift
  (($# == 0)) || printf '  %s\n' "$@" >&2
  exit 1
}

has() {
  command -v "$1" >/dev/null 2>&1
}

# The Rust release that rust-toolchain.toml pins.
pinned() {
  sed -n 's/^channel *= *"\(.*\)"/\1/p' "$ROOT/rust-toolchain.toml"
}

# Whether version $1 is $2 or newer.
at_least() {
  [[ $(printf '%s\n' "$1" "$2" | sort -V | head -n 1) == "$2" ]]
}

# Makes `cargo` in this repository work where rustup has the pinned release under another name ("stable"), or,
# with the argument `newer`, only a newer one. Fails if there is none of them.
choose_rust() {
  local wanted version name found=
  [[ -z ${RUSTUP_TOOLCHAIN:-} ]] || return 0
  if ! has rustup; then
    has cargo && has rustc && at_least "$(rustc --version | cut -d' ' -f2)" "$(pinned)"
    return
  fi
  wanted=$(pinned)
  ! rustup toolchain list 2>/dev/null | grep -q "^$wanted-" || return 0
  while read -r name; do
    version=$(RUSTUP_TOOLCHAIN=$name rustc --version 2>/dev/null | cut -d' ' -f2) || continue
    if [[ $version == "$wanted" ]]; then
      export RUSTUP_TOOLCHAIN=$name
      return 0
    fi
    if [[ $version != *-* ]] && at_least "$version" "$wanted"; then
      found=$name
    fi
  done < <(rustup toolchain list 2>/dev/null | sed 's/ .*//')
  [[ ${1:-} == newer && -n $found ]] || return 1
  export RUSTUP_TOOLCHAIN=$found
}

# For scripts that are not commands of xtask: shows the help on standard input if the first argument asks for it, and
# refuses an option that is not among the words of $1.
options() {
  local known=$1 word
  shift
  case ${1:-} in
    -h | --help)
      cat
      exit 0
      ;;
  esac
  for word; do
    [[ $word != -- ]] || break
    if [[ $word == -* && " $known " != *" $word "* ]]; then
      usage "unexpected argument '$word' found"
    fi
  done
}

# Ends the script as a wrong command line does.
usage() {
  printf "error: %s\n\nFor more information, try '--help'.\n" "$1" >&2
  exit 2
}

# Runs a command of xtask; PORTCULLIS_XTASK is one that was built before.
xtask() {
  local -a quiet=(-q)
  if [[ -n ${PORTCULLIS_XTASK:-} ]]; then
    "$PORTCULLIS_XTASK" "$@"
    return
  fi
  choose_rust newer || die "there is no Rust $(pinned) or newer here" "run ./scripts/setup"
  if [[ ! -x ${CARGO_TARGET_DIR:-$ROOT/target}/debug/xtask ]]; then
    echo "building the tools; the first time takes a minute or two" >&2
    [[ ! -t 2 ]] || quiet=()
  fi
  cargo run "${quiet[@]}" --manifest-path "$ROOT/Cargo.toml" -p xtask -- "$@"
}

# Runs a command of xtask, which first sets up and builds what it needs.
prepared() {
  # The pinned Rust is installed where it can be had, before a newer one will do.
  [[ -n ${PORTCULLIS_XTASK:-} ]] || choose_rust || "$ROOT/scripts/setup"
  xtask --prepare "$@"
}
