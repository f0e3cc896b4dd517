# shellcheck shell=bash
# Functions for the scripts in this folder, which source it.

# skip REASON: ends the script without a result, which fails in CI.
skip() {
    echo "skipped: $1"
    [[ ${CI:-} != true ]] || exit 1
    exit 0
}

# require COMMAND [PACKAGE]: installs the Debian package (by default of the same name) if the command is missing.
require() {
    command -v "$1" >/dev/null && return
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${2:-$1}" >/dev/null; } ||
        skip "$1 is missing and cannot be installed"
}
