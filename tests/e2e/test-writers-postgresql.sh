#!/usr/bin/env bash
# PostgreSQL with its data and its WAL on two volumes, at work: it comes up from
# a snapshot set of both, with every transaction that was committed before, and
# none in part.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"
. "$tests_srcdir/e2e/writers.sh"

bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
[ -n "$bin" ] && [ -x "$bin/initdb" ] && [ -x "$bin/pgbench" ] ||
  skip "PostgreSQL is not installed"
requires nbdfuse fusermount3 mke2fs losetup mount nbdcopy runuser psql
[ "$(id -u)" -eq 0 ] || skip "needs root, to mount"
id postgres >/dev/null 2>&1 || skip "PostgreSQL is not installed"

chmod 711 "$tmp"
for v in data wal; do
  truncate -s 160M "$tmp/$v.img"
  mke2fs -q -F -t ext4 "$tmp/$v.img"
done
start_nbdkit -o '-t 16' "$tmp/data.img" "$tmp/wal.img" store-limit=1G
export COWSET_URI=$uri
mount_volume data
mount_volume wal
mkdir "$tmp/run"
chown postgres "$tmp/data.mnt" "$tmp/wal.mnt" "$tmp/run"

as_postgres () { (cd / && runuser -u postgres -- "$@"); }
sql () { as_postgres psql -X -q -A -t -h "$tmp/run" -p "$1" -c "$2" postgres; }

cat >>"$tmp/conf" <<END
listen_addresses = ''
unix_socket_directories = '$tmp/run'
shared_buffers = 16MB
max_wal_size = 48MB
min_wal_size = 32MB
synchronous_commit = off
END
as_postgres "$bin/initdb" -A trust -D "$tmp/data.mnt/pg" \
  --waldir="$tmp/wal.mnt/pg" --wal-segsize=4 --no-sync >"$tmp/initdb.out"
cat "$tmp/conf" >>"$tmp/data.mnt/pg/postgresql.conf"

# start_server DIR PORT / stop_server DIR
start_server ()
{
  as_postgres "$bin/pg_ctl" -D "$1" -o "-p $2" -w -t 60 \
    -l "$tmp/run/log.$2" start >"$tmp/pg_ctl.out" 2>&1 || {
    cat "$tmp/pg_ctl.out" "$tmp/run/log.$2" >&2
    fail "PostgreSQL does not start in $1"
  }
}
stop_server ()
{
  as_postgres "$bin/pg_ctl" -D "$1" -m immediate -w stop >/dev/null 2>&1
}
start_server "$tmp/data.mnt/pg" 5432
at_exit "stop_server '$tmp/data.mnt/pg'"
as_postgres "$bin/pgbench" -q -i -s 1 -h "$tmp/run" postgres 2>"$tmp/init.err"
sql 5432 'CREATE TABLE marks (n int)'

mkdir "$tmp/hooks.pg"
cp "$top_srcdir/requester/writers/examples/postgresql" "$tmp/hooks.pg/"
echo "PGHOST=$tmp/run" >"$tmp/hooks.pg/postgresql.conf"

as_postgres "$bin/pgbench" -n -c 4 -T 600 -h "$tmp/run" postgres \
  >"$tmp/pgbench.out" 2>&1 &
bench=$!
at_exit "kill $bench 2>/dev/null; wait $bench 2>/dev/null"
at_work () { [ "$(sql 5432 'SELECT count(*) > 20 FROM pgbench_history')" = t ]; }
eventually at_work

# bring_up SET-DIR: a server over copies of both snapshots.
bring_up ()
{
  local v loop
  for v in data wal; do
    loop=$(losetup -f --show "$1/$v")
    at_exit "losetup -d $loop 2>/dev/null"
    mkdir "$1/$v.mnt"
    mount -t ext4 "$loop" "$1/$v.mnt"
    at_exit "umount '$1/$v.mnt' 2>/dev/null"
  done
  ln -sfn "$1/wal.mnt/pg" "$1/data.mnt/pg/pg_wal"
  rm -f "$1/data.mnt/pg/postmaster.pid"
  start_server "$1/data.mnt/pg" 5433
  at_exit "stop_server '$1/data.mnt/pg'"
}

for i in 1 2; do
  sql 5432 "INSERT INTO marks VALUES ($i)"   # acknowledged, and not waited for
  mkdir -m 755 "$tmp/set$i"
  "$cowset" run --writer "exec:$tmp/hooks.pg" \
    --writer "fsfreeze:$tmp/data.mnt" --writer "fsfreeze:$tmp/wal.mnt" \
    data wal -- sh -c "nbdcopy \"\$COWSET_URI_DATA\" '$tmp/set$i/data'
                       nbdcopy \"\$COWSET_URI_WAL\" '$tmp/set$i/wal'
                       echo \"\$COWSET_SET\" >'$tmp/set$i/id'"
  before=$(sql 5432 'SELECT count(*) FROM pgbench_history')
  bring_up "$tmp/set$i"
  [ "$(sql 5433 'SELECT max(n) FROM marks')" = "$i" ] ||
    fail "set $i: a transaction is missing that was committed before it"
  sums=$(sql 5433 'SELECT (SELECT sum(abalance) FROM pgbench_accounts) =
                            (SELECT sum(delta) FROM pgbench_history) AND
                          (SELECT sum(tbalance) FROM pgbench_tellers) =
                            (SELECT sum(delta) FROM pgbench_history) AND
                          (SELECT sum(bbalance) FROM pgbench_branches) =
                            (SELECT sum(delta) FROM pgbench_history)')
  [ "$sums" = t ] || fail "set $i: a transaction is there in part"
  then=$(sql 5433 'SELECT count(*) FROM pgbench_history')
  echo "set $i: $then transactions, now $before"
  [ "$then" -gt 0 ] && [ "$then" -le "$before" ] || fail "set $i: $then"
  stop_server "$tmp/set$i/data.mnt/pg"
done
kill $bench
wait $bench 2>/dev/null || true
[ "$(sql 5432 'SELECT 1')" = 1 ] || fail "the server is gone"
