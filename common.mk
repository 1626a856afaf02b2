# common.mk - what every Makefile.am includes.
# SPDX-License-Identifier: BSD-3-Clause

# Ends every list, so that adding a file changes exactly one line.
NULL =

AM_CPPFLAGS = \
	-D_GNU_SOURCE \
	-I$(top_builddir) \
	-I$(top_srcdir) \
	$(NULL)
AM_CFLAGS = \
	-std=gnu11 \
	-pthread \
	$(WARNINGS_CFLAGS) \
	$(THREAD_SAFETY_CFLAGS) \
	$(WERROR_CFLAGS) \
	$(SANITIZE_CFLAGS) \
	$(COVERAGE_CFLAGS) \
	$(NULL)
AM_LDFLAGS = \
	-pthread \
	$(SANITIZE_CFLAGS) \
	$(COVERAGE_CFLAGS) \
	$(NULL)

CLEANFILES =

# Manual pages are POD, beside the code that they describe.  The name of the
# source is the name of the page with its section's suffix replaced.
SUFFIXES = .pod .1 .3
POD2MAN_FLAGS = --utf8 --center='cowset' --release='$(PACKAGE_STRING)'
.pod.1:
	$(AM_V_GEN)$(MKDIR_P) $(@D) && \
	$(POD2MAN) $(POD2MAN_FLAGS) --section=1 \
	  --name=`basename $@ .1` $< $@.tmp && mv $@.tmp $@
.pod.3:
	$(AM_V_GEN)$(MKDIR_P) $(@D) && \
	$(POD2MAN) $(POD2MAN_FLAGS) --section=3 \
	  --name=`basename $@ .3` $< $@.tmp && mv $@.tmp $@
