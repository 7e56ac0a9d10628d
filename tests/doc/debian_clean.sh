# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# The Debian packages in a clean Debian, of the mirror that this machine uses: they install, do the main
# job, and leave nothing behind when they are purged. Needs root and a network, and takes minutes.
set -eu
cd "$(dirname "$0")/../.."
. tests/clone.sh
T=$(mktemp -d "${TMPDIR:-/tmp}/xnbd-debian.XXXXXX")
trap 'rm -rf "$T"' EXIT
trap 'exit 1' INT TERM
clone "$T/clone"
make -s -C "$T/clone" "O=$T/out" deb >"$T/log" 2>&1 || {
	tail -20 "$T/log"
	exit 1
}

suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
apt-get indextargets --format '$(REPO_URI)' "Codename: $suite" 'Component: main' 'Created-By: Packages' >"$T/mirrors"
read -r mirror <"$T/mirrors" || {
	echo "apt knows no mirror of $suite: apt-get update" >&2
	exit 1
}
debootstrap --variant=minbase "$suite" "$T/root" "$mirror" >"$T/log" 2>&1 || {
	tail -20 "$T/log"
	exit 1
}
apt-config dump | grep '^Acquire::.*Proxy' >"$T/root/etc/apt/apt.conf.d/proxy" || :
mkdir "$T/root/packages"
cp "$T"/out/debian/*.deb config/debian/tests/move "$T/root/packages/"

# Mounts and processes end with it.
cat >"$T/root/packages/test" <<'END'
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
mount -t proc proc /proc
# files LIST: what there is, but for records of dpkg and apt
files() {
	find / -xdev \( -path /proc -o -path /packages -o -path /tmp -o -path '/var/cache/*' -o -path '/var/lib/apt/*' -o \
		-path '/var/lib/dpkg/*' -o -path '/var/log/*' \) -prune -o -print | sort >"$1"
}
apt-get update
# What ours depend on, and what the test needs.
apt-get install -y --no-install-recommends busybox initramfs-tools libnbd-bin
files /packages/before
apt-get install -y --no-install-recommends /packages/*.deb
dpkg --verify xnbdbox-server xnbdbox-bgctl xnbdbox-initramfs
[ -x /usr/share/initramfs-tools/hooks/xnbd ]
sh /packages/move
apt-get purge -y xnbdbox-server xnbdbox-bgctl xnbdbox-initramfs
files /packages/after
diff /packages/before /packages/after
! dpkg -l | grep xnbdbox
END
unshare --mount --pid --fork --kill-child chroot "$T/root" env -u TMPDIR sh /packages/test >"$T/log" 2>&1 || {
	tail -30 "$T/log"
	exit 1
}
