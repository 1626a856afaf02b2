#!/usr/bin/env bash
# mutants.sh - plant each bug of cow-core/base/mutant.h, and show who finds it.
#
#   mutants.sh [NAME...]
#
# For each, the programs below run one after the other until one fails, with
# ever more runs.  Prints a row of the table in README.md, and fails if any is
# not found.  The tree must be configured with --enable-mutants (./dev mutants).
#
# SPDX-License-Identifier: BSD-3-Clause

set -u -o pipefail
here=$(cd "$(dirname "$0")" && pwd) || exit 1
list=$here/../../cow-core/base/mutant.h

# From quick to thorough.
tries=(
  "crash --exhaustive --length 1"
  "crash --crowd --seed 1 --runs 1000"
  "crash --random --seed 1 --runs 40"
  "crash --exhaustive --length 2"
  "crash --crowd --seed 1001 --runs 100000 --seconds 120"
)

# what NAME: its line in the list.
what ()
{
  sed -n "s/^  X ($1, \"\(.*\)\").*/\1/p" "$list"
}

names ()
{
  if [ $# -gt 0 ]; then
    printf '%s\n' "$@"
  else
    sed -n 's/^  X (\([a-z_]*\), .*/\1/p' "$list"
  fi
}

log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT

# find NAME: prints who finds it, or fails.
find_it ()
{
  local try line
  for try in "${tries[@]}"; do
    # shellcheck disable=SC2086
    COWSET_MUTANT=$1 timeout 600 "$here"/$try --jobs 1 >"$log" 2>&1
    case $? in
      0) continue ;;
      2|99|12[4-7]) cat "$log" >&2; return 2 ;;
    esac
    line=$(sed -n 's/.*repeat it: [^ ]*\/\(crash.*\)/\1/p' "$log" | head -n 1)
    echo "${line:-$try}"
    return 0
  done
  return 1
}

echo "| mutant | what is done wrong | found by |"
echo "|---|---|---|"
found=0 all=0
for name in $(names "$@"); do
  all=$((all + 1))
  if by=$(find_it "$name"); then
    found=$((found + 1))
    echo "| \`$name\` | $(what "$name") | \`$by\` |"
  else
    echo "| \`$name\` | $(what "$name") | NOT FOUND |"
  fi
done
echo
echo "$found of $all found"
[ "$found" -eq "$all" ]
