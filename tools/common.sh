# SPDX-License-Identifier: Apache-2.0
#
# common.sh: what ./demo, ./check and bench/run share: saying what is done, and
# installing what is missing. Sourced by bash scripts that have `set -euo pipefail`.

if [ -t 1 ]; then bold=$(tput bold 2>/dev/null || true) plain=$(tput sgr0 2>/dev/null || true)
else bold='' plain=''; fi

started=$SECONDS

say() { # a heading, with the time since the start
    printf '%s== [%3d s] %s%s\n' "$bold" $((SECONDS - started)) "$*" "$plain"
}

die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

# Runs a command with its output in a file, shown only when it fails.
quietly() { # LOG COMMAND...
    local log=$1
    shift
    mkdir -p "$(dirname "$log")"
    if ! "$@" >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        die "failed: $* (all of its output: $log)"
    fi
}

# Installs Debian packages that are not there yet; says which, and needs root only then.
need_packages() { # PACKAGE...
    local missing=() package sudo=''
    command -v dpkg-query >/dev/null || {
        say "not a Debian system: taking for granted that these are there: $*"
        return 0
    }
    for package in "$@"; do
        case $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true) in
        *' installed') ;;
        *) missing+=("$package") ;;
        esac
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    if [ "$(id -u)" -ne 0 ]; then
        sudo=$(command -v sudo) || die "these packages are missing, and neither root nor sudo is there to install them: ${missing[*]}"
    fi
    say "installing ${#missing[@]} packages: ${missing[*]}"
    quietly build/apt.log $sudo env DEBIAN_FRONTEND=noninteractive sh -c \
        'apt-get update -q && exec apt-get install -y -q --no-install-recommends "$@"' apt "${missing[@]}"
}

build_packages=(gcc libc6-dev make cmake ninja-build pkg-config libzmq3-dev libmsgpack-dev
    libsodium-dev uthash-dev libbsd-dev libjansson-dev libsqlite3-dev libpng-dev)
test_packages=(g++ clang clang-tidy-14 clang-format-14 libclang-rt-14-dev cppcheck libcmocka-dev
    binutils python3 python3-yaml procps zsh groff-base dpkg-dev file adduser util-linux patch spin)
ssh_packages=(openssh-server openssh-client util-linux iproute2 python3)
slurm_packages=(slurmctld slurmd slurm-client munge python3)
