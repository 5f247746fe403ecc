#!/bin/sh
# Says what is missing before anything is built, all at once and with the command that brings it. Plain sh: it runs before cargo can.
set -u
missing=0
complain() { missing=1; printf 'missing: %s\n         %s\n' "$1" "$2" >&2; }

oldest=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$(dirname "$0")/../Cargo.toml")
if ! found=$("${CARGO:-cargo}" --version 2>/dev/null | cut -d ' ' -f 2) || [ -z "$found" ]; then
    complain "cargo $oldest or newer" "https://rustup.rs"
elif [ "$(printf '%s\n%s\n' "$oldest" "$found" | sort -V | head -n 1)" != "$oldest" ]; then
    complain "cargo $oldest or newer (found $found)" "rustup update stable"
fi

command -v cc >/dev/null 2>&1 || complain "a C compiler" "Debian, Ubuntu: apt-get install gcc libc6-dev"

python=${PYTHON:-python3}
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
    complain "Python 3.10 or newer" "Debian, Ubuntu: apt-get install python3 (PYTHON=... names another)"
else
    "$python" -c 'import importlib.util as u, sys; sys.exit(u.find_spec("pip") is None)' || complain "pip for $python" "Debian, Ubuntu: apt-get install python3-pip"
    "$python" -c 'import venv, ensurepip' 2>/dev/null || complain "venv for $python" "Debian, Ubuntu: apt-get install python3-venv"
fi
exit $missing
