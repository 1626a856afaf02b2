#!/usr/bin/env bash
# Whatever the URI leads to: a server that is no cowset is left untouched, and
# a filter that would answer in cowset's place is found out.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"

requires cmp

# refused CODE TEXT: list fails with both.
refused ()
{
  local status=0
  "$cowset" -c "$uri" list >"$tmp/out" 2>"$tmp/err" || status=$?
  [ "$status" = 1 ] || fail "status $status: $(cat "$tmp/err")"
  grep -q "$1" "$tmp/err" || fail "no $1 in $(cat "$tmp/err")"
  grep -q "$2" "$tmp/err" || fail "no '$2' in $(cat "$tmp/err")"
}
# with_plugin PLUGIN ARGUMENT...: refused while another plugin serves.
with_plugin ()
{
  local save=$plugin
  plugin=$1
  shift
  start_nbdkit "$@"
  plugin=$save
}

# Disks of others, one of them of the very size of a control channel.
head -c 16777216 /dev/urandom >"$tmp/disk.img"
cp "$tmp/disk.img" "$tmp/disk.copy"
with_plugin file "$tmp/disk.img"
refused VSS_E_REMOTE_SERVER_UNSUPPORTED 'no control channel'
stop_nbdkit
cmp "$tmp/disk.img" "$tmp/disk.copy"
truncate -s 1M "$tmp/small.img"
with_plugin file "$tmp/small.img"
refused VSS_E_REMOTE_SERVER_UNSUPPORTED 'no control channel'
stop_nbdkit

truncate -s 1M "$tmp/a.img"

# Filters that keep data.
for filter in cow cache; do
  [ -e "$(nbdkit --dump-config | sed -n 's/^filterdir=//p')/nbdkit-$filter-filter.so" ] ||
    skip "nbdkit-$filter-filter is not installed"
  start_nbdkit -o "--filter=$filter" "$tmp/a.img"
  refused VSS_E_REMOTE_SERVER_UNSUPPORTED 'something between'
  stop_nbdkit
done

# Nothing can be written, nobody may, nothing is there.
start_nbdkit -o -r "$tmp/a.img"
refused E_ACCESSDENIED 'read-only'
stop_nbdkit
start_nbdkit "$tmp/a.img" control=off
refused VSS_E_REMOTE_SERVER_UNSUPPORTED 'control=off'
stop_nbdkit

# One thread per connection serves as well.
start_nbdkit -o '-t 1' "$tmp/a.img"
"$cowset" -c "$uri" run a -- true
stop_nbdkit
