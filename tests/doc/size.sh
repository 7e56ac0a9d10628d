# SPDX-License-Identifier: GPL-2.0-or-later
# The stripped binary with everything on is at most 160 KB and needs no library.
set -u
cd "$(dirname "$0")/../.." || exit 1
bytes=$(stat -c %s build/xnbdbox)
echo "build/xnbdbox: $bytes bytes"
[ "$bytes" -le 160000 ] || exit 1
! readelf -d build/xnbdbox | grep NEEDED
