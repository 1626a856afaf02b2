#!/usr/bin/env bash
# The example writers for SQLite, and for any application by commands: what they
# freeze is still from freeze to thaw, and goes on after it.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"
. "$tests_srcdir/e2e/writers.sh"

requires nbdfuse fusermount3 mke2fs debugfs losetup mount nbdcopy
requires_python sqlite3

examples=$top_srcdir/requester/writers/examples
truncate -s 48M "$tmp/a.img"
mke2fs -q -F -t ext4 "$tmp/a.img"
start_nbdkit "$tmp/a.img" store-limit=1G
export COWSET_URI=$uri
mount_volume a

# Two databases, one of each kind of journal, with somebody who moves money.
cat >"$tmp/bank.py" <<'END'
import random, sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
mode = sys.argv[2]
db.execute("PRAGMA journal_mode = %s" % mode)
if mode == "wal":
    db.execute("PRAGMA synchronous = off")
db.execute("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, n INT)")
db.execute("INSERT OR IGNORE INTO t VALUES (1, 500), (2, 500)")
print("ready", flush=True)
while True:
    n = random.randint(1, 9)
    db.execute("BEGIN IMMEDIATE")
    db.execute("UPDATE t SET n = n - ? WHERE id = 1", (n,))
    db.execute("UPDATE t SET n = n + ? WHERE id = 2", (n,))
    db.execute("COMMIT")
    time.sleep(0.002)
END
for mode in wal delete; do
  "$python" "$tmp/bank.py" "$tmp/a.mnt/$mode.db" $mode >"$tmp/$mode.out" &
  at_exit "kill $! 2>/dev/null; wait $! 2>/dev/null"
  eventually grep -q ready "$tmp/$mode.out"
done

mkdir "$tmp/sqlite"
cp "$examples/sqlite" "$tmp/sqlite/"
printf '# test\n%s\n%s\n' "$tmp/a.mnt/wal.db" "$tmp/a.mnt/delete.db" \
  >"$tmp/sqlite/sqlite.conf"

# The state of the databases: changes as long as somebody writes.
state ()
{
  "$python" -c '
import sqlite3, sys
for p in sys.argv[1:]:
    print(sqlite3.connect(p, timeout=60).execute("SELECT n FROM t").fetchall())
' "$tmp/a.mnt/wal.db" "$tmp/a.mnt/delete.db"
}
changes () { [ "$(state)" != "$1" ]; }

# By hand: nothing changes while it is frozen; everything goes on after it.
for end in thaw abort; do
  "$tmp/sqlite/sqlite" freeze
  before=$(state)
  sleep 0.5
  ! changes "$before" || fail "it was written to while frozen"
  ! "$tmp/sqlite/sqlite" freeze 2>/dev/null || fail "frozen twice"
  "$tmp/sqlite/sqlite" $end
  eventually changes "$before"
done
! "$tmp/sqlite/sqlite" thaw 2>/dev/null || fail "thawed without a freeze"
"$tmp/sqlite/sqlite" abort

for i in 1 2 3; do
  "$cowset" run --writer "exec:$tmp/sqlite" --writer "fsfreeze:$tmp/a.mnt" a -- \
    sh -c "nbdcopy \"\$COWSET_URI_A\" '$tmp/then'"
  before=$(state)
  eventually changes "$before"
  rm -rf "$tmp/out"
  mkdir "$tmp/out"
  debugfs -R "rdump / $tmp/out" "$tmp/then" >"$tmp/debugfs.out" 2>&1
  # No journal to roll back, in either.
  [ ! -s "$tmp/out/delete.db-journal" ] || fail "set $i: a hot journal"
  # Without its write-ahead log it is whole, too.
  rm -f "$tmp/out/wal.db-wal" "$tmp/out/wal.db-shm"
  for mode in wal delete; do
    "$python" - "$tmp/out/$mode.db" <<'END' || fail "set $i: $mode"
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
assert db.execute("SELECT sum(n) FROM t").fetchone()[0] == 1000
END
  done
done

# By commands.
mkdir "$tmp/command"
cp "$examples/command" "$tmp/command/wiki"
cat >"$tmp/command/wiki.conf" <<END
name='Wiki'
freeze='echo frozen >>"$tmp/wiki"'
thaw='echo thawed >>"$tmp/wiki"'
post_snapshot='echo "\$COWSET_VOLUMES" >>"$tmp/wiki"'
END
"$cowset" run --writer "exec:$tmp/command" a -- true
[ "$(tr '\n' ' ' <"$tmp/wiki")" = 'frozen thawed a ' ] ||
  fail "$(cat "$tmp/wiki")"
rm "$tmp/command/wiki.conf"
status=0
"$cowset" run --writer "exec:$tmp/command" a -- true 2>"$tmp/err" || status=$?
[ "$status" != 0 ] || fail "without its commands"
