# cowset.m4 - the few checks that autoconf does not bring.
# SPDX-License-Identifier: BSD-3-Clause

# COWSET_TRY_CFLAG(VARIABLE, FLAG)
# Append FLAG to VARIABLE if the compiler takes it without complaint.
AC_DEFUN([COWSET_TRY_CFLAG], [
  AS_VAR_PUSHDEF([cache], [cowset_cv_cflag_$2])
  AC_CACHE_CHECK([whether $CC takes $2], [cache], [
    cowset_save_CFLAGS=$CFLAGS
    CFLAGS="-Werror $2"
    AC_COMPILE_IFELSE([AC_LANG_PROGRAM([], [])],
      [AS_VAR_SET([cache], [yes])], [AS_VAR_SET([cache], [no])])
    CFLAGS=$cowset_save_CFLAGS
  ])
  AS_VAR_IF([cache], [yes], [$1="$$1 $2"])
  AS_VAR_POPDEF([cache])
])
