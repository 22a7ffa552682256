# Install packages and print the names of those that were not there before: sh apt_install.sh PACKAGE...
# Ansible's own module would first install Python's bindings of apt, which nobody asked for.
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
said=$(mktemp)
trap 'rm -f "$said"' EXIT
names() { dpkg-query --show --showformat='${Package}\n'; }

before=$(names)
# A machine that has just started updates its lists by itself and locks them meanwhile.
tries=0
until apt-get update -qq 2>"$said" || ! grep -q lock "$said" || [ "$tries" -ge 60 ]; do
    tries=$((tries + 1))
    sleep 5
done
cat "$said" >&2
apt-get install -qq -y --no-install-recommends -o DPkg::Lock::Timeout=300 "$@" >"$said" || {
    cat "$said" >&2
    exit 1
}
{ echo "$before"; echo "$before"; names; } | sort | uniq -u
