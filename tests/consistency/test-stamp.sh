#!/usr/bin/env bash
# Several writers at depth 16 on four volumes, each sector stamped; the sets
# taken meanwhile are checked from both sides: stamp.c, against each kind of
# server.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"

# stamp SETS [PLUGIN-ARGUMENT...]
stamp ()
{
  local sets=$1
  shift
  rm -f "$tmp"/v?.img
  # One is no multiple of the block.
  truncate -s 4M "$tmp"/v{0,1,2}.img
  truncate -s 4195328 "$tmp"/v3.img
  start_nbdkit -o "-t 64" "$tmp"/v{0,1,2,3}.img store-limit=1G "$@"
  echo "$*"
  "$tests_builddir/consistency/stamp" --sets "$sets" "$uri" v0 v1 v2 v3
  stop_nbdkit
}

stamp "$(scaled 40)"
stamp "$(scaled 12)" io=sync block-size=64K
stamp "$(scaled 12)" cache=none
