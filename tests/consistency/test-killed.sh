#!/usr/bin/env bash
# A requester that is killed, at each step of making a set, leaves nothing
# behind and holds nobody up: killed.c.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"

# In memory where that is possible: a slow disk's sync is no hold.
images=$tmp
if memory=$(mktemp -d /dev/shm/cowset.XXXXXX 2>/dev/null); then
  at_exit "rm -rf '$memory'"
  images=$memory
fi
truncate -s 2M "$images"/{a,b}.img
# A hold that is only ended by its limit would show.
start_nbdkit -o "-t 64" "$images"/{a,b}.img hold-limit=10
limit=1000
[ -z "$sanitizers" ] || limit=4000
"$tests_builddir/consistency/killed" --rounds "$(scaled 20)" --limit $limit \
  "$uri" a b
stop_nbdkit
