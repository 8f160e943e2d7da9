# Sourced by the scripts beside it: everything a fresh Debian or Ubuntu lacks, once.
#
# It wants a Python from 3.10 on and makes the rest itself: the package for virtual
# environments and FUSE from the system's packages (with sudo where needed), and the
# environments in the checkout. An environment is left alone while its stamp matches what it
# was made from.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PATH="$PATH:/usr/sbin:/sbin"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

say() { printf '%s\n' "== $*" >&2; }

fail() {
    printf '%s\n' "$0: $*" >&2
    exit 1
}

# quietly COMMAND...: its output is shown only if it fails.
quietly() {
    local output status=0
    output=$(mktemp)
    "$@" >"$output" 2>&1 || status=$?
    ((status == 0)) || cat "$output" >&2
    rm -f "$output"
    return "$status"
}

as_root() {
    if [[ $(id -u) == 0 ]]; then
        "$@"
    elif command -v sudo >/dev/null; then
        # Nobody is there to type a password when there is no terminal.
        if [[ -t 0 ]]; then sudo "$@"; else sudo -n "$@"; fi
    else
        return 1
    fi
}

apt_is_fresh=
# apt_install PACKAGE[|OTHER-NAME...]...: the first name that the system's release knows.
apt_install() {
    command -v apt-get >/dev/null || return 1
    if [[ ! $apt_is_fresh ]]; then
        # Not quietly: sudo may have to ask.
        as_root apt-get update -qq >&2 || return 1
        apt_is_fresh=1
    fi
    local alternatives name names=()
    for alternatives in "$@"; do
        for name in ${alternatives//|/ }; do
            if apt-cache show --no-all-versions "$name" >/dev/null 2>&1; then
                names+=("$name")
                break
            fi
        done
    done
    ((${#names[@]})) || return 1
    say "installing ${names[*]}"
    quietly as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${names[@]}"
}

# The interpreter to make environments with, not one of an environment that happens to be
# active. flowServ's own dependencies stop at 3.13.
find_python() {
    local candidate limit
    for limit in 14 99; do
        for candidate in python3 python3.13 python3.12 python3.11 python3.10 python3.14; do
            command -v "$candidate" >/dev/null || continue
            "$candidate" - "$limit" 2>/dev/null <<'END' && return
import sys
if not (3, 10) <= sys.version_info < (3, int(sys.argv[1])):
    sys.exit(1)
print(getattr(sys, "_base_executable", None) or sys.executable)
END
        done
    done
    fail "no Python from 3.10 on is here: install one, as with apt-get install python3"
}

# can_make_environments PYTHON: Debian keeps ensurepip in a package of its own.
can_make_environments() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }

ensure_venv_module() {
    can_make_environments "$1" && return
    local version
    version=$("$1" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
    apt_install "$version-venv|python3-venv" || true
    can_make_environments "$1" ||
        fail "$1 cannot make virtual environments: install $version-venv (or python3-venv)"
}

# stamp_of PIP-ARGUMENT...: what an environment depends on, as one line.
stamp_of() {
    local python
    python=$(find_python) || exit 1
    {
        "$python" -c 'import sys; print(sys.version, sys.executable)'
        printf '%s\n' "$root" "$@"
        cat "$root/pyproject.toml"
    } | sha256sum
}

# is_made DIRECTORY PIP-ARGUMENT...
is_made() {
    local stamp=$root/$1/stamp
    [[ -e $stamp && $(<"$stamp") == "$(stamp_of "${@:2}")" ]]
}

# environment DIRECTORY PIP-ARGUMENT...: a virtual environment with that installed.
environment() {
    is_made "$@" && return
    local directory=$root/$1 python
    python=$(find_python) || exit 1
    ensure_venv_module "$python"
    say "making $1 with $("$python" --version): ${*:2}"
    quietly "$python" -m venv --clear "$directory" || fail "cannot make $directory"
    # Older ones cannot install this project in place.
    quietly "$directory/bin/pip" install --quiet 'pip>=22.3' || fail "cannot install pip"
    (cd "$root" && quietly "$directory/bin/pip" install --quiet "${@:2}") ||
        fail "cannot install ${*:2}"
    stamp_of "${@:2}" >"$directory/stamp"
}

has_library() { ldconfig -p 2>/dev/null | grep -q "$1"; }

# FUSE: what is missing of the device's tools and the libraries of both generations. Nobody
# is stopped by its absence; the demo and the tests say what they leave out.
ensure_fuse() {
    local missing=()
    command -v fusermount3 >/dev/null || missing+=(fuse3)
    has_library 'libfuse\.so\.2' || missing+=('libfuse2t64|libfuse2')
    has_library 'libfuse3\.so' || missing+=('libfuse3-4|libfuse3-3t64|libfuse3-3')
    if ((${#missing[@]})) && ! apt_install "${missing[@]}"; then
        say "cannot install FUSE (${missing[*]}); going on without what is missing of it"
    fi
    if [[ ! -e /dev/fuse ]]; then
        say "there is no /dev/fuse on this machine: nothing can be mounted"
    fi
}

# The ordinary tools that the tests try on a mount, and the shells that they complete in. Without
# one of them its tests are skipped, and say so.
ensure_tools() {
    local pair missing=()
    for pair in rsync vim nano git sqlite3 zip unzip less tar find:findutils diff:diffutils \
        flock:util-linux getfattr:attr gio:libglib2.0-bin zsh fish jq script:bsdutils; do
        command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
    done
    if ((${#missing[@]})) && ! apt_install "${missing[@]}"; then
        say "cannot install ${missing[*]}; going on without"
    fi
}

# nginx's program, unpacked into the checkout: its package would start a server on this machine.
ensure_nginx() {
    export PATH="$PATH:$root/.tools/usr/sbin"
    command -v nginx >/dev/null && return
    command -v apt-get >/dev/null || return 0
    [[ $apt_is_fresh ]] || as_root apt-get update -qq >&2 || true
    local name
    for name in nginx nginx-core nginx-light; do
        say "unpacking $name"
        rm -rf "$root/.tools"
        mkdir -p "$root/.tools"
        (cd "$root/.tools" && quietly apt-get download -qq "$name" &&
            quietly dpkg-deb -x "$name"_*.deb .) || continue
        command -v nginx >/dev/null && return
    done
    say "cannot get nginx; going on without"
}
