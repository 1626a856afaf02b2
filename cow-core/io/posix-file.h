/* posix-file.h - the open file of both real engines; for posix-*.c only.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef COW_IO_POSIX_FILE_H
#define COW_IO_POSIX_FILE_H

#include "io/io.h"

struct posix_file {
  struct cow_file base;
  int fd;
};

#endif /* COW_IO_POSIX_FILE_H */
