#!/usr/bin/env bash
# Numbers written across four volumes, one after another, have no hole in any
# of the sets taken meanwhile: chain.c, against each kind of server.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"

# chain SETS [PLUGIN-ARGUMENT...]
chain ()
{
  local sets=$1
  shift
  rm -f "$tmp"/v?.img
  truncate -s 2M "$tmp"/v{0,1,2,3}.img
  start_nbdkit "$tmp"/v{0,1,2,3}.img store-limit=1G "$@"
  echo "$*"
  "$tests_builddir/consistency/chain" --sets "$sets" "$uri" v0 v1 v2 v3
  stop_nbdkit
}

# The same with two volumes each at two servers.
chain_of_two ()
{
  rm -f "$tmp"/v?.img
  truncate -s 2M "$tmp"/v{0,1,2,3}.img
  start_nbdkit -n one "$tmp"/v{0,1}.img store-limit=1G
  start_nbdkit -n two "$tmp"/v{2,3}.img store-limit=1G
  echo "two servers"
  # shellcheck disable=SC2154
  "$tests_builddir/consistency/chain" --sets "$1" "$uri_one" \
    "$(export_uri v0 one)" "$(export_uri v2 two)" "$(export_uri v1 one)" \
    "$(export_uri v3 two)"
  # shellcheck disable=SC2154
  stop_nbdkit "$nbdkit_pid_one"
  # shellcheck disable=SC2154
  stop_nbdkit "$nbdkit_pid_two"
}

chain "$(scaled 200)"
chain_of_two "$(scaled 100)"
chain "$(scaled 40)" io=sync block-size=64K
