# shellcheck shell=bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Shared by the other scripts, which source it.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# Prints its arguments to stderr as an error, and ends the script.
die() {
  printf 'error: %s\n' "$@" >&2
  exit 1
}

# Runs a command of xtask.
xtask() {
  cargo run -q --manifest-path "$ROOT/Cargo.toml" -p xtask -- "$@"
}
