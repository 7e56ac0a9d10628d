# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# The stripped binary needs no library, and the sizes are those of README.md.
set -u
cd "$(dirname "$0")/../.." || exit 1
bytes=$(stat -c %s build/xnbdbox)
echo "build/xnbdbox: $bytes bytes"
[ "$bytes" -le 290816 ] || exit 1 # 284 KiB: what is larger has a reason, or goes
! readelf -d build/xnbdbox | grep NEEDED || exit 1
exec config/bloat.sh check
