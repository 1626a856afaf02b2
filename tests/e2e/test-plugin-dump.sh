#!/usr/bin/env bash
# nbdkit's habits: --dump-plugin, --help, --version, -D, --run, going to the
# background with relative paths.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"

requires nbdinfo

cd "$tmp"
truncate -s 1M a.img

run_nbdkit "$plugin" --dump-plugin >dump
for line in name=cowset version= thread_model=parallel magic_config_key=volume \
            'cowset_io=\(io_uring\|sync\)' cowset_control_protocol=1 \
            cowset_store=yes
do
  grep -q "^$line" dump || { cat dump; fail "--dump-plugin lacks $line"; }
done
run_nbdkit "$plugin" io=sync --dump-plugin | grep -qx cowset_io=sync ||
  fail "io=sync is not shown"

# Every parameter is in the help.
run_nbdkit "$plugin" --help >help
for key in volume cache block-size store-limit store-reserve store-timeout \
           protect io snapshot-limit hold-limit flush-limit control \
           control-sessions session-grace
do
  grep -q "^ *\[\?$key=" help || fail "--help lacks $key="
done

# Flags of -D are known to nbdkit; it says so where one is not.
run_nbdkit -U - -v -D cowset.io=1 -D cowset.set=1 -D cowset.store=1 \
  -D cowset.volume=1 -D cowset.control=1 "$plugin" a.img --run 'exit 0' \
  2>debug
if grep -q 'does not contain.*debug flag\|no -D flag' debug; then
  fail "a debug flag is missing"
fi

# Into the background, where the directory is another.
run_nbdkit -U "$tmp/d.sock" -P "$tmp/d.pid" "$plugin" a.img
eventually test -s "$tmp/d.pid"
pid=$(cat "$tmp/d.pid")
at_exit "end_process $pid"
[ "$(nbdinfo --size "nbd+unix:///a?socket=$tmp/d.sock")" = 1048576 ] ||
  fail "the size is wrong"
