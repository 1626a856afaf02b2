#!/usr/bin/env bash
# check-text - what can be said of a source by reading it: no call of the kind
# that has a safe twin, a header on each file, nothing left unfinished, and a
# tarball that has every source.
#
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")}/functions.sh"
cd "$top_srcdir" || exit 1

errors=0
complain () { echo "$*"; errors=$((errors + 1)); }

find cow-core protocol nbdkit-plugin requester -name '*.[ch]' | sort \
  >"$tmp/product"
find tests -path tests/log -prune -o -name '*.[ch]' -print | sort >"$tmp/tests"
[ -s "$tmp/product" ] || fail "found no sources"

# grep fails where it finds nothing, which is what is hoped for.
found () { xargs -r grep -HnE "$@" || true; }

calls='\b(strcpy|strcat|sprintf|vsprintf|gets|alloca|system|tmpnam|mktemp) *\('
while IFS= read -r hit; do
  complain "$hit: use the safe twin"
done < <(cat "$tmp/product" "$tmp/tests" | found "$calls" |
         grep -vE ':[0-9]+: *(/?\*|//)')

while IFS= read -r hit; do
  complain "$hit: unfinished"
done < <(found '\b(TODO|FIXME|HACK)\b' <"$tmp/product")

while IFS= read -r f; do
  grep -q 'SPDX-License-Identifier: BSD-3-Clause' "$f" ||
    complain "$f: no license line"
done < <(cat "$tmp/product" "$tmp/tests")

while IFS= read -r f; do
  if grep -nP '\t| +$' "$f" | head -n 3 | grep .; then
    complain "$f: a tab, or white space at the end of a line"
  fi
done < <(cat "$tmp/product" "$tmp/tests")

# The engine gets time, chance and I/O through base/ and io/ alone, and starts
# no thread.
# A call through an interface's pointer is the way to do it.
seam='(?<![>.])\b(clock_gettime|gettimeofday|time|nanosleep|usleep|getrandom|rand|random|pread|pwrite|preadv|pwritev|fsync|fdatasync|fallocate|pthread_create) *\('
while IFS= read -r hit; do
  complain "$hit: goes past base/ and io/"
done < <(grep -vE '^cow-core/(base|io)/' "$tmp/product" | grep '^cow-core/' |
         xargs -r grep -HnP "$seam" | grep -vE ':[0-9]+: *(/?\*|//)')
while IFS= read -r hit; do
  complain "$hit: the engine starts no thread"
done < <(grep '^cow-core/' "$tmp/product" | found '\bpthread_create *\(')

[ "$errors" -eq 0 ] || fail "$errors findings"
echo "$(cat "$tmp/product" "$tmp/tests" | wc -l) sources read"
