# Remove packages, and no others: sh apt_remove.sh PACKAGE...
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
going=$(apt-get --simulate purge "$@" | sed -n 's/^\(Remv\|Purg\) \([^ :]*\).*/\2/p' | sort -u)
others=$(for name in $going; do case " $* " in *" $name "*) ;; *) echo "$name" ;; esac; done)
if [ -n "$others" ]; then
    echo "Packages that came later need some of these and would go with them:" $others >&2
    exit 1
fi
apt-get purge -qq -y -o DPkg::Lock::Timeout=300 "$@"
