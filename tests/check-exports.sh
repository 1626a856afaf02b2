#!/usr/bin/env bash
# check-exports - the plugin and the library export what is meant, and only
# that; and what the public header declares can be linked.
#
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")}/functions.sh"
requires nm

library=$top_builddir/requester/.libs/libcowset.so
header=$top_srcdir/requester/cowset.h

names_of () { nm -D --defined-only "$1" | awk '{ print $NF }'; }

# ---------------------------------------------------------------- the plugin
[ -e "$plugin" ] || fail "$plugin has not been built"
names_of "$plugin" >"$tmp/plugin"
grep -qx plugin_init "$tmp/plugin" || fail "the plugin lacks plugin_init"
if grep -vxE 'plugin_init|cowset_debug_[a-z_]+' "$tmp/plugin"; then
  fail "the plugin exports more than plugin_init and cowset_debug_*"
fi
# "-D cowset.X=1" sets only an int.
if nm -D --defined-only "$plugin" | grep ' cowset_debug_' | grep -v ' [BD] '; then
  fail "a debug flag is not a variable"
fi

# --------------------------------------------------------------- the library
[ -e "$library" ] || fail "$library has not been built"
names_of "$library" >"$tmp/library.all"
if grep -vE '^(cowset_[a-z0-9_]+@@COWSET_[0-9.]+|COWSET_[0-9.]+)$' \
     "$tmp/library.all"; then
  fail "libcowset exports names without a version, or foreign ones"
fi
sed -n 's/@@.*//p' "$tmp/library.all" | sort -u >"$tmp/library"
[ -s "$tmp/library" ] || fail "libcowset exports nothing"

# Each exported function is in the header, and the reverse.
cpp -P -I"$top_srcdir/protocol" "$header" 2>/dev/null | tr '\n' ' ' |
  grep -oE '\bcowset_[a-z0-9_]+[[:space:]]*\([^*]' |
  sed 's/[[:space:]]*(.*//' | sort -u >"$tmp/header"
if ! diff -u "$tmp/header" "$tmp/library"; then
  fail "cowset.h (-) and libcowset.so (+) differ"
fi

# And in the manual, in its list of functions.
sed -n '/^=head1 FUNCTIONS/,/^=head1 FAILURE/p' \
  "$top_srcdir/requester/libcowset.pod" |
  sed -n 's/^ \(cowset_[a-z0-9_]*\).*/\1/p' | sort >"$tmp/manual"
if ! diff -u "$tmp/manual" "$tmp/library"; then
  fail "FUNCTIONS in libcowset(3) (-) and libcowset.so (+) differ"
fi
echo "$(wc -l <"$tmp/library") functions of libcowset, $(wc -l <"$tmp/plugin") names of the plugin"
