#!/usr/bin/env bash
# The example of libcowset(3) is the one that is compiled, and it works.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"

requires nbdcopy cmp jq

# The page has the file, indented by one.
sed 's/^\(.\)/ \1/' "$top_srcdir/requester/examples/backup.c" >"$tmp/example"
$python - "$top_srcdir/requester/libcowset.pod" "$tmp/example" <<'END' ||
import sys
page, example = (open(name).read() for name in sys.argv[1:])
sys.exit(0 if example in page else 1)
END
  fail "requester/libcowset.pod has another example than examples/backup.c"

head -c 5000000 /dev/urandom >"$tmp/root.img"
head -c 700001 /dev/urandom >"$tmp/data.img"
start_nbdkit "$tmp/root.img" "$tmp/data.img"
mkdir "$tmp/backup"
"$top_builddir/requester/examples/backup" "$uri" "$tmp/backup" data root
cmp "$tmp/backup/root.img" "$tmp/root.img"
cmp "$tmp/backup/data.img" "$tmp/data.img"
[ "$("$cowset" -c "$uri" list --json | jq length)" = 0 ] || fail "a set is left"

status=0
"$top_builddir/requester/examples/backup" "$uri" "$tmp/backup" nix \
  2>"$tmp/err" || status=$?
[ "$status" = 1 ] || fail "no such volume: $status"
grep -q 'nix: VSS_E_OBJECT_NOT_FOUND' "$tmp/err" || fail "$(cat "$tmp/err")"
