#!/usr/bin/env bash
# See to the system packages that a target needs: install what is missing with apt (as root or through sudo, saying so
# first), or say exactly what to install and stop.
# usage: scripts/system-packages.sh demo|test
set -euo pipefail
target=${1:?usage: scripts/system-packages.sh demo|test}

# command or file to look for : Debian package that brings it
demo=(
    ssh:openssh-client /usr/sbin/sshd:openssh-server ip:iproute2 nft:nftables sudo:sudo
    unshare:util-linux nsenter:util-linux git:git ensurepip:python3-venv
)
test=(
    "${demo[@]}" ab:apache2-utils wrk:wrk h2load:nghttp2-client debootstrap:debootstrap chromium:chromium
    gcc:build-essential cmake:cmake ninja:ninja-build pkg-config:pkg-config
    /usr/share/keyrings/debian-archive-keyring.gpg:debian-archive-keyring /usr/include/fcgiapp.h:libfcgi-dev
    php-fpm:php-fpm
)
case $target in
    demo) wanted=("${demo[@]}") ;;
    test) wanted=("${test[@]}") ;;
    *) echo "usage: scripts/system-packages.sh demo|test" >&2; exit 2 ;;
esac

present() {
    case $1 in
        # Debian's python3 has no ensurepip until python3-venv is there.
        ensurepip) "${PYTHON:-python3}" -c 'import ensurepip' 2>/dev/null ;;
        # Its program carries the version of PHP in its name.
        php-fpm) compgen -G '/usr/sbin/php-fpm*' >/dev/null ;;
        /*) [ -e "$1" ] ;;
        *) PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null ;;
    esac
}

missing=()
for entry in "${wanted[@]}"; do
    present "${entry%%:*}" || missing+=("${entry##*:}")
done
[ ${#missing[@]} -eq 0 ] && exit 0
mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)

as_root=()
if [ "$(id -u)" -ne 0 ]; then as_root=(sudo); fi
if ! command -v apt-get >/dev/null || { [ ${#as_root[@]} -gt 0 ] && ! command -v sudo >/dev/null; }; then
    {
        echo "fcgi-sweep: these programs are missing: ${missing[*]} (names of Debian's packages)."
        echo "Install them as root with your system's package manager, then run 'make $target' again."
    } >&2
    exit 2
fi
echo "fcgi-sweep: installing system packages with ${as_root[*]:+sudo }apt-get: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
# sshd is wanted as a program for the lab, not as a service of this machine.
policy=/usr/sbin/policy-rc.d
made_policy=
cleanup() { [ -z "$made_policy" ] || "${as_root[@]}" rm -f "$policy"; }
trap cleanup EXIT
if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee $policy >/dev/null
    made_policy=1
    "${as_root[@]}" chmod 755 $policy
fi
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
