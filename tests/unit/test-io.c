/* test-io.c - the engines of the operating system.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Each case runs over every engine, through the page cache and with O_DIRECT,
 * in a directory of its own under $TMPDIR or /var/tmp.
 */
#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/parameterized.h>

#include "base/bits.h"
#include "base/sync.h"
#include "io/io.h"

#define MIB (UINT64_C (1) << 20)
#define PAGE 4096

static char *dir, *path;

static void
setup (void)
{
  const char *tmp = getenv ("TMPDIR");

  if (asprintf (&dir, "%s/test-io-XXXXXX", tmp ? tmp : "/var/tmp") == -1 ||
      mkdtemp (dir) == NULL || asprintf (&path, "%s/disk.img", dir) == -1)
    cr_assert_fail ("no directory for the test");
}

static void
teardown (void)
{
  unlink (path);
  rmdir (dir);
  free (path);
  free (dir);
}

TestSuite (io, .init = setup, .fini = teardown, .timeout = 120);

struct engine {
  char name[24];
  enum cow_io_kind kind;
  unsigned flags;
};

static struct engine *
engines (size_t *count)
{
  static const struct engine all[] = {
    { "sync", COW_IO_SYNC, 0 },
    { "sync, direct", COW_IO_SYNC, COW_OPEN_DIRECT },
    { "io_uring", COW_IO_URING, 0 },
    { "io_uring, direct", COW_IO_URING, COW_OPEN_DIRECT },
  };
  struct engine *copy = cr_malloc (sizeof all);

  memcpy (copy, all, sizeof all);
  *count = COW_ARRAY_SIZE (all);
  return copy;
}

#define EngineTest(name)                                                \
  ParameterizedTestParameters (io, name)                                \
  {                                                                     \
    size_t n;                                                           \
    struct engine *all = engines (&n);                                  \
    return cr_make_param_array (struct engine, all, n);                 \
  }                                                                     \
  ParameterizedTest (struct engine *p, io, name)

/* Where io_uring is refused, its cases are skipped (a container, say). */
static struct cow_io *
new_io (const struct engine *p)
{
  struct cow_error err = COW_ERROR_INIT;
  struct cow_io *io;

  if (cow_io_new (p->kind, &err, &io) < 0)
    cr_skip ("%s: %s", p->name, err.text);
  return io;
}

static void
make_file (uint64_t size)
{
  const int fd = open (path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

  cr_assert (fd >= 0);
  cr_assert_eq (ftruncate (fd, (off_t) size), 0);
  close (fd);
}

static struct cow_file *
open_file (struct cow_io *io, const struct engine *p)
{
  struct cow_error err = COW_ERROR_INIT;
  struct cow_file *f;

  cr_assert_eq (cow_file_open (io, path, p->flags, &err, &f), 0, "%s",
                err.text);
  return f;
}

static void *
pages (size_t len, int fill)
{
  void *p = aligned_alloc (PAGE, len);

  cr_assert_not_null (p);
  memset (p, fill, len);
  return p;
}

static bool
all_are (const void *buf, size_t len, int byte)
{
  const uint8_t *p = buf;

  for (size_t i = 0; i < len; i++) {
    if (p[i] != byte)
      return false;
  }
  return true;
}

EngineTest (write_is_read_back)
{
  struct cow_io *io = new_io (p);
  uint8_t *out = pages (3 * MIB, 0), *in = pages (3 * MIB, 0xff);
  struct cow_file *f;

  make_file (4 * MIB);
  f = open_file (io, p);
  cr_assert_eq (f->info.size_bytes, 4 * MIB);
  cr_assert_not (f->info.is_block);
  for (size_t i = 0; i < 3 * MIB; i++)
    out[i] = (uint8_t) (i * 31 % 251);
  cr_assert_eq (cow_file_pwrite (f, out, 3 * MIB, PAGE), 0);
  cr_assert_eq (cow_file_sync (f), 0);
  cr_assert_eq (cow_file_pread (f, in, 3 * MIB, PAGE), 0);
  cr_assert_arr_eq (in, out, 3 * MIB);
  cow_file_close (f);
  cow_io_free (io);
  free (out);
  free (in);
}

EngineTest (read_beyond_the_end_gives_zeroes)
{
  struct cow_io *io = new_io (p);
  uint8_t *buf = pages (4 * PAGE, 0);
  struct cow_file *f;
  int fd;

  /* The file ends within a sector. */
  make_file (0);
  fd = open (path, O_WRONLY | O_CLOEXEC);
  cr_assert (fd >= 0);
  memset (buf, 'x', PAGE + 100);
  cr_assert_eq (pwrite (fd, buf, PAGE + 100, 0), PAGE + 100);
  close (fd);

  f = open_file (io, p);
  memset (buf, 0xff, 4 * PAGE);
  cr_assert_eq (cow_file_pread (f, buf, 4 * PAGE, 0), 0);
  cr_assert (all_are (buf, PAGE + 100, 'x'));
  cr_assert (all_are (buf + PAGE + 100, 3 * PAGE - 100, 0));
  memset (buf, 0xff, 4 * PAGE);
  cr_assert_eq (cow_file_pread (f, buf, 4 * PAGE, 16 * PAGE), 0);
  cr_assert (all_are (buf, 4 * PAGE, 0));
  cow_file_close (f);
  cow_io_free (io);
  free (buf);
}

EngineTest (nothing_is_done_for_length_0)
{
  struct cow_io *io = new_io (p);
  struct cow_file *f;
  uint8_t *buf = pages (PAGE, 1);
  struct stat st;

  make_file (PAGE);
  f = open_file (io, p);
  cr_assert_eq (cow_file_pread (f, buf, 0, 0), 0);
  cr_assert_eq (cow_file_pwrite (f, buf, 0, 16 * PAGE), 0);
  cr_assert_eq (cow_file_punch (f, 0, 0), 0);
  cr_assert_eq (cow_file_zero (f, 0, 0, true), 0);
  cr_assert_eq (cow_file_allocate (f, 16 * PAGE, 0), 0);
  cr_assert_eq (stat (path, &st), 0);
  cr_assert_eq (st.st_size, PAGE);
  cow_file_close (f);
  cow_io_free (io);
  free (buf);
}

EngineTest (extents_tell_holes_from_data)
{
  struct cow_io *io = new_io (p);
  uint8_t *buf = pages (MIB, 'd');
  enum cow_extent_kind kind;
  struct cow_file *f;
  uint64_t len;

  make_file (4 * MIB);
  f = open_file (io, p);
  cr_assert_eq (cow_file_pwrite (f, buf, MIB, MIB), 0);

  cr_assert_eq (cow_file_extent (f, 0, &kind, &len), 0);
  cr_assert (kind == COW_EXTENT_HOLE && len == MIB);
  cr_assert_eq (cow_file_extent (f, MIB + 5, &kind, &len), 0);
  cr_assert (kind == COW_EXTENT_DATA && len == MIB - 5);
  cr_assert_eq (cow_file_extent (f, 2 * MIB, &kind, &len), 0);
  cr_assert (kind == COW_EXTENT_HOLE && len == 2 * MIB);
  cr_assert_eq (cow_file_extent (f, 4 * MIB - 1, &kind, &len), 0);
  cr_assert (kind == COW_EXTENT_HOLE && len == 1);
  cr_assert_eq (cow_file_extent (f, 4 * MIB, &kind, &len), -ENXIO);
  cow_file_close (f);
  cow_io_free (io);
  free (buf);
}

/* Both ways leave zeroes there and nothing else changed. */
static void
check_zeroed (struct cow_file *f, uint8_t *buf, struct stat *st)
{
  memset (buf, 0xff, 4 * PAGE);
  cr_assert_eq (cow_file_pread (f, buf, 4 * PAGE, 0), 0);
  cr_assert (all_are (buf, PAGE, 'd'));
  cr_assert (all_are (buf + PAGE, 2 * PAGE, 0));
  cr_assert (all_are (buf + 3 * PAGE, PAGE, 'd'));
  cr_assert_eq (stat (path, st), 0);
  cr_assert_eq (st->st_size, 4 * PAGE);
}

EngineTest (punch_gives_space_back)
{
  struct cow_io *io = new_io (p);
  uint8_t *buf = pages (4 * PAGE, 'd');
  struct cow_file *f;
  struct stat st, before;

  make_file (4 * PAGE);
  f = open_file (io, p);
  if (!f->info.can_punch)
    cr_skip ("the file system cannot punch holes");
  cr_assert_eq (cow_file_pwrite (f, buf, 4 * PAGE, 0), 0);
  cr_assert_eq (cow_file_sync (f), 0);
  cr_assert_eq (stat (path, &before), 0);
  cr_assert_eq (cow_file_punch (f, PAGE, 2 * PAGE), 0);
  check_zeroed (f, buf, &st);
  cr_assert_eq (st.st_blocks, before.st_blocks - 2 * PAGE / 512);
  /* Beyond the end there is nothing to give back, and nothing grows. */
  cr_assert_eq (cow_file_punch (f, 16 * PAGE, PAGE), 0);
  check_zeroed (f, buf, &st);
  cow_file_close (f);
  cow_io_free (io);
  free (buf);
}

EngineTest (zero_without_punching_keeps_space)
{
  struct cow_io *io = new_io (p);
  uint8_t *buf = pages (4 * PAGE, 'd');
  struct cow_file *f;
  struct stat st, before;
  int r;

  make_file (4 * PAGE);
  f = open_file (io, p);
  cr_assert_eq (cow_file_pwrite (f, buf, 4 * PAGE, 0), 0);
  cr_assert_eq (cow_file_sync (f), 0);
  cr_assert_eq (stat (path, &before), 0);
  r = cow_file_zero (f, PAGE, 2 * PAGE, false);
  if (r == -EOPNOTSUPP)
    cr_skip ("the file system cannot zero without writing");
  cr_assert_eq (r, 0);
  check_zeroed (f, buf, &st);
  cr_assert_eq (st.st_blocks, before.st_blocks);
  cr_assert_eq (cow_file_zero (f, PAGE, 2 * PAGE, true), 0);
  check_zeroed (f, buf, &st);
  cow_file_close (f);
  cow_io_free (io);
  free (buf);
}

EngineTest (allocate_extends_the_file)
{
  struct cow_io *io = new_io (p);
  uint8_t *buf = pages (PAGE, 0xff);
  struct cow_file *f;
  struct stat st;
  int r;

  make_file (PAGE);
  f = open_file (io, p);
  r = cow_file_allocate (f, MIB, MIB);
  if (r == -EOPNOTSUPP)
    cr_skip ("the file system cannot allocate");
  cr_assert_eq (r, 0);
  cr_assert_eq (stat (path, &st), 0);
  cr_assert_eq (st.st_size, 2 * MIB);
  cr_assert (st.st_blocks * 512 >= (off_t) MIB);
  cr_assert_eq (cow_file_pread (f, buf, PAGE, MIB), 0);
  cr_assert (all_are (buf, PAGE, 0));
  cow_file_close (f);
  cow_io_free (io);
  free (buf);
}

EngineTest (locks_exclude)
{
  struct cow_io *io = new_io (p);
  struct cow_file *a, *b;

  make_file (PAGE);
  a = open_file (io, p);
  b = open_file (io, p);
  cr_assert_eq (cow_file_lock (a, 100, 2, false), 0);
  cr_assert_eq (cow_file_lock_test (b, 100, 2, false), 0);
  cr_assert_eq (cow_file_lock_test (b, 101, 1, true), -EAGAIN);
  cr_assert_eq (cow_file_lock (b, 101, 1, true), -EAGAIN);
  cr_assert_eq (cow_file_lock (b, 102, 1, true), 0);
  cr_assert_eq (cow_file_lock (a, 102, 1, false), -EAGAIN);
  /* A lock ends with its file. */
  cow_file_close (b);
  cr_assert_eq (cow_file_lock (a, 102, 1, true), 0);
  cow_file_close (a);
  cow_io_free (io);
}

/* ----------------------------------------------------------------- opening */

static void
make_missing (void)
{
}

static void
make_directory (void)
{
  rmdir (path);
  cr_assert_eq (mkdir (path, 0700), 0);
}

static void
make_fifo (void)
{
  cr_assert_eq (mkfifo (path, 0600), 0);
}

static void
check_refused (void (*make) (void), unsigned flags, int code,
               const char *says)
{
  static const enum cow_io_kind kinds[] = { COW_IO_SYNC, COW_IO_URING };
  char expected[256];

  make ();
  snprintf (expected, sizeof expected, "%s: %s", path, says);
  for (size_t i = 0; i < COW_ARRAY_SIZE (kinds); i++) {
    struct cow_error err = COW_ERROR_INIT;
    struct cow_file *f = NULL;
    struct cow_io *io;

    if (cow_io_new (kinds[i], NULL, &io) < 0)
      continue;
    cr_expect_eq (cow_file_open (io, path, flags, &err, &f), code);
    cr_expect_eq (err.code, code);
    cr_expect_str_eq (err.text, expected);
    cr_expect_null (f);
    cow_io_free (io);
  }
  rmdir (path);
}

Test (io, open_of_nothing)
{
  check_refused (make_missing, 0, -ENOENT, "no such file");
}

Test (io, open_of_no_directory)
{
  check_refused (make_missing, COW_OPEN_UNNAMED, -ENOENT,
                 "no such directory");
}

Test (io, open_of_a_directory)
{
  check_refused (make_directory, 0, -EISDIR,
                 "is a directory, not a file or block device");
}

Test (io, open_of_a_fifo_does_not_wait)
{
  check_refused (make_fifo, COW_OPEN_READONLY, -ENOTSUP,
                 "is neither a file nor a block device");
}

EngineTest (unnamed_file_leaves_nothing)
{
  struct cow_io *io = new_io (p);
  struct cow_error err = COW_ERROR_INIT;
  uint8_t *buf = pages (PAGE, 'u');
  struct cow_file *f;

  cr_assert_eq (cow_file_open (io, dir, p->flags | COW_OPEN_UNNAMED, &err, &f),
                0, "%s", err.text);
  cr_assert_eq (f->info.size_bytes, 0);
  cr_assert_eq (cow_file_pwrite (f, buf, PAGE, MIB), 0);
  memset (buf, 0, PAGE);
  cr_assert_eq (cow_file_pread (f, buf, PAGE, MIB), 0);
  cr_assert (all_are (buf, PAGE, 'u'));
  /* Succeeds only while the directory is empty. */
  cr_assert_eq (rmdir (dir), 0);
  cow_file_close (f);
  cow_io_free (io);
  free (buf);
}

EngineTest (the_cached_face_has_what_was_written)
{
  struct cow_io *io = new_io (p);
  struct cow_error err = COW_ERROR_INIT;
  uint8_t *buf = pages (MIB, 'a');
  struct cow_file *f, *cached;
  int64_t had;

  cr_assert_eq (cow_file_open (io, dir, p->flags | COW_OPEN_UNNAMED, &err, &f),
                0, "%s", err.text);
  cr_assert_eq (cow_file_pwrite (f, buf, MIB, 0), 0);
  cr_assert_eq (cow_file_open_cached (f, &cached), 0);
  cr_expect_eq (cached->info.align_bytes, 1);
  for (int version = 'b'; version < 'f'; version++) {
    cow_file_prefetch (cached, 0, MIB);
    memset (buf, 0, MIB);
    cr_assert_eq (cow_file_pread (cached, buf + 1, MIB - 7, 7), 0);
    cr_expect (all_are (buf + 1, MIB - 7, (char) (version - 1)));
    had = cow_file_pread_cached (cached, buf + 1, PAGE, PAGE);
    cr_expect (had == -EOPNOTSUPP || (had >= 0 && had <= PAGE), "%lld",
               (long long) had);
    if (had > 0)
      cr_expect (all_are (buf + 1, (size_t) had, (char) (version - 1)));
    /* Its pages are in the cache now, and must not be believed any more. */
    memset (buf, version, MIB);
    cr_assert_eq (cow_file_pwrite (f, buf, MIB, 0), 0);
  }
  had = cow_file_pread_cached (cached, buf, PAGE, 2 * MIB);
  cr_expect (had == 0 || had == -EOPNOTSUPP, "beyond the end: %lld",
             (long long) had);
  cow_file_close (cached);
  cow_file_close (f);
  cow_io_free (io);
  free (buf);
}

static int
count_name (void *opaque, const char *name)
{
  cr_assert_str_eq (name, "disk.img");
  ++*(unsigned *) opaque;
  return 0;
}

EngineTest (names_are_made_once_and_removed)
{
  struct cow_io *io = new_io (p);
  struct cow_error err = COW_ERROR_INIT;
  uint8_t *buf = pages (PAGE, 'n');
  struct cow_file *f, *g;
  unsigned names = 0;

  cr_assert_eq (cow_io_exists (io, path), 0);
  cr_assert_eq (cow_io_remove (io, path), -ENOENT);
  cr_assert_eq (cow_file_open (io, path, p->flags | COW_OPEN_CREATE, &err, &f),
                0, "%s", err.text);
  cr_assert_eq (cow_file_pwrite (f, buf, PAGE, 0), 0);
  cr_assert_eq (cow_io_exists (io, path), 1);
  cr_assert_eq (cow_io_list (io, dir, count_name, &names), 0);
  cr_assert_eq (names, 1);
  cr_assert_eq (cow_io_sync_dir (io, dir), 0);

  /* What is there is left as it is. */
  cr_assert_eq (cow_file_open (io, path, p->flags | COW_OPEN_CREATE, &err, &g),
                -EEXIST);
  cr_assert (strstr (err.text, "exists already"), "%s", err.text);
  memset (buf, 0, PAGE);
  cr_assert_eq (cow_file_pread (f, buf, PAGE, 0), 0);
  cr_assert (all_are (buf, PAGE, 'n'));
  cow_file_close (f);

  cr_assert_eq (cow_io_remove (io, path), 0);
  cr_assert_eq (cow_io_exists (io, path), 0);
  cr_assert_eq (cow_io_sync_dir (io, dir), 0);
  cr_assert_eq (cow_io_sync_dir (io, path), -ENOENT);
  cow_io_free (io);
  free (buf);
}

EngineTest (a_file_has_an_identity_and_a_mark)
{
  struct cow_io *io = new_io (p);
  uint8_t *buf = pages (PAGE, 'i');
  struct cow_identity before, after;
  char mark[8] = "";
  struct cow_file *f;
  struct stat st;
  int r;

  make_file (2 * PAGE);
  cr_assert_eq (stat (path, &st), 0);
  usleep (20000);               /* more than a tick of the file's clock */
  /* Opening changes nothing. */
  cr_assert_eq (cow_file_open (io, path, p->flags, NULL, &f), 0);
  cr_assert_eq (cow_file_identity (f, &before), 0);
  cr_assert_eq (before.device, st.st_dev);
  cr_assert_eq (before.inode, st.st_ino);
  cr_assert_eq (before.size_bytes, 2 * PAGE);
  cr_assert_eq (before.modified_ns / COW_NS_PER_S, st.st_mtime);
  cr_assert_eq (before.modified_ns % COW_NS_PER_S, st.st_mtim.tv_nsec);
  cr_assert_eq (before.changed_ns % COW_NS_PER_S, st.st_ctim.tv_nsec);
  usleep (20000);
  cr_assert_eq (cow_file_pwrite (f, buf, PAGE, 0), 0);
  cr_assert_eq (cow_file_identity (f, &after), 0);
  cr_assert_gt (after.modified_ns, before.modified_ns);
  cr_assert_eq (after.inode, before.inode);

  r = cow_file_set_mark (f, "first", 5);
  if (r == -EOPNOTSUPP)
    cr_skip ("the file system has no extended attributes");
  cr_assert_eq (r, 0);
  cr_assert_eq (cow_file_get_mark (f, mark, 4), -ERANGE);
  cr_assert_eq (cow_file_get_mark (f, mark, sizeof mark), 5);
  cr_assert_eq (memcmp (mark, "first", 5), 0);
  cr_assert_eq (cow_file_set_mark (f, "2nd", 3), 0);
  cow_file_close (f);

  cr_assert_eq (cow_file_open (io, path, COW_OPEN_READONLY, NULL, &f), 0);
  cr_assert_eq (cow_file_get_mark (f, mark, sizeof mark), 3);
  cr_assert_eq (memcmp (mark, "2nd", 3), 0);
  cr_assert_eq (cow_file_set_mark (f, NULL, 0), 0);
  cr_assert_eq (cow_file_set_mark (f, NULL, 0), 0);
  cr_assert_eq (cow_file_get_mark (f, mark, sizeof mark), 0);
  cow_file_close (f);
  cow_io_free (io);
  free (buf);
}

Test (io, readonly_refuses_writes)
{
  struct cow_io *io;
  struct cow_file *f;
  char c = 'x';

  make_file (PAGE);
  cr_assert_eq (cow_io_new (COW_IO_SYNC, NULL, &io), 0);
  cr_assert_eq (cow_file_open (io, path, COW_OPEN_READONLY, NULL, &f), 0);
  cr_assert (f->info.is_readonly);
  cr_assert_not (f->info.can_punch);
  cr_assert_eq (cow_file_pwrite (f, &c, 1, 0), -EBADF);
  cow_file_close (f);
  cow_io_free (io);
}

Test (io, auto_always_finds_an_engine)
{
  struct cow_io *io;

  cr_assert_eq (cow_io_new (COW_IO_AUTO, NULL, &io), 0);
  cr_assert (strcmp (cow_io_name (io), "io_uring") == 0 ||
             strcmp (cow_io_name (io), "sync") == 0);
  cow_io_free (io);
}

/* As container runtimes do: io_uring_setup fails with EPERM, for this process
 * (each test is one) and for good.
 */
static void
forbid_io_uring (void)
{
  struct sock_filter filter[] = {
    BPF_STMT (BPF_LD | BPF_W | BPF_ABS, offsetof (struct seccomp_data, nr)),
    BPF_JUMP (BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
    BPF_STMT (BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
    BPF_STMT (BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const struct sock_fprog program = {
    .len = COW_ARRAY_SIZE (filter), .filter = filter,
  };

  cr_assert_eq (prctl (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
  if (prctl (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == -1)
    cr_skip ("no seccomp filters here");
}

static unsigned infos;
static char last_info[256];

static void
note_info (enum cow_log_level level, const char *text)
{
  infos += level == COW_LOG_INFO;
  snprintf (last_info, sizeof last_info, "%s", text);
}

Test (io, auto_does_without_io_uring)
{
  struct cow_error err = COW_ERROR_INIT;
  struct cow_queue *q;
  struct cow_io *io;

  forbid_io_uring ();
  cow_log_set_hook (note_info);
  cr_assert_eq (cow_io_new (COW_IO_URING, &err, &io), -EPERM);
  cr_assert_not_null (strstr (err.text, "io_uring is not permitted"));
  cr_assert_eq (infos, 0);
  cr_assert_eq (cow_io_new (COW_IO_AUTO, NULL, &io), 0);
  cr_assert_str_eq (cow_io_name (io), "sync");
  cr_assert_eq (infos, 1);
  cr_assert_not_null (strstr (last_info, err.text));
  cr_assert_eq (cow_queue_new (io, 4, &q), 0);
  cow_queue_free (q);
  cow_io_free (io);
}

#ifndef NDEBUG
Test (io, unaligned_direct_write_aborts, .signal = SIGABRT)
{
  static const struct engine direct = {
    "sync, direct", COW_IO_SYNC, COW_OPEN_DIRECT,
  };
  struct cow_io *io = new_io (&direct);
  struct cow_file *f;

  make_file (PAGE);
  f = open_file (io, &direct);
  if (!f->info.is_direct)
    abort ();
  cow_file_pwrite (f, pages (PAGE, 0), PAGE, 1);
}
#endif

/* ------------------------------------------------------------------- queue */

#define REQUESTS 300
#define DEPTH 16

struct many {
  struct cow_queue *q;
  struct cow_file *f;
  struct cow_request req[REQUESTS];
  unsigned submitted, done, failed;
};

static void submit_more (struct many *m);

static void
one_done (struct cow_request *req, int result)
{
  struct many *m = req->opaque;

  m->done++;
  m->failed += result != 0;
  submit_more (m);
}

static void
submit_more (struct many *m)
{
  while (m->submitted < REQUESTS &&
         cow_queue_submit (m->q, &m->req[m->submitted]) == 0)
    m->submitted++;
}

/* All requests through the queue, done callbacks keeping it full. */
static void
run_all (struct many *m)
{
  m->submitted = m->done = m->failed = 0;
  submit_more (m);
  cr_assert_eq (m->submitted, DEPTH);
  cr_assert_eq (m->q->in_flight, DEPTH);
  cr_assert_eq (cow_queue_reap (m->q, REQUESTS, COW_NEVER), REQUESTS);
  cr_assert_eq (m->done, REQUESTS);
  cr_assert_eq (m->failed, 0);
  cr_assert_eq (m->q->in_flight, 0);
}

EngineTest (queue_moves_many_requests)
{
  struct cow_io *io = new_io (p);
  uint8_t *buf = pages (REQUESTS * PAGE, 0);
  struct many *m = calloc (1, sizeof *m);

  make_file (0);
  m->f = open_file (io, p);
  cr_assert_eq (cow_queue_new (io, DEPTH, &m->q), 0);
  for (unsigned i = 0; i < REQUESTS; i++) {
    memset (buf + i * PAGE, (int) (i % 250 + 1), PAGE);
    m->req[i] = (struct cow_request) {
      .op = COW_OP_WRITE, .file = m->f, .buf = buf + i * PAGE, .len = PAGE,
      .offset = (REQUESTS - 1 - i) * PAGE, .done = one_done, .opaque = m,
    };
  }
  run_all (m);
  memset (buf, 0, REQUESTS * PAGE);
  for (unsigned i = 0; i < REQUESTS; i++)
    m->req[i].op = COW_OP_READ;
  run_all (m);
  for (unsigned i = 0; i < REQUESTS; i++)
    cr_assert (all_are (buf + i * PAGE, PAGE, (int) (i % 250 + 1)));
  cr_assert_eq (cow_queue_reap (m->q, 1, COW_NEVER), 0);
  cow_queue_free (m->q);
  cow_file_close (m->f);
  cow_io_free (io);
  free (m);
  free (buf);
}

static void
note_result (struct cow_request *req, int result)
{
  int *out = req->opaque;

  *out = result;
}

EngineTest (queue_reads_beyond_the_end)
{
  struct cow_io *io = new_io (p);
  uint8_t *buf = pages (4 * PAGE, 0xff);
  struct cow_request req;
  struct cow_queue *q;
  struct cow_file *f;
  int result = 1, fd;

  make_file (0);
  fd = open (path, O_WRONLY | O_CLOEXEC);
  cr_assert_eq (pwrite (fd, "xyz", 3, PAGE), 3);
  close (fd);
  f = open_file (io, p);
  cr_assert_eq (cow_queue_new (io, 1, &q), 0);
  req = (struct cow_request) {
    .op = COW_OP_READ, .file = f, .buf = buf, .len = 4 * PAGE,
    .done = note_result, .opaque = &result,
  };
  cr_assert_eq (cow_queue_submit (q, &req), 0);
  cr_assert_eq (cow_queue_submit (q, &req), -EAGAIN);
  cr_assert_eq (cow_queue_reap (q, 1, COW_NEVER), 1);
  cr_assert_eq (result, 0);
  cr_assert (all_are (buf, PAGE, 0));
  cr_assert_eq (memcmp (buf + PAGE, "xyz", 3), 0);
  cr_assert (all_are (buf + PAGE + 3, 3 * PAGE - 3, 0));
  cow_queue_free (q);
  cow_file_close (f);
  cow_io_free (io);
  free (buf);
}

EngineTest (queue_reports_errors)
{
  struct cow_io *io = new_io (p);
  uint8_t *buf = pages (PAGE, 0);
  struct cow_request req;
  struct cow_queue *q;
  struct cow_file *f;
  int result = 1;

  make_file (PAGE);
  cr_assert_eq (cow_file_open (io, path, p->flags | COW_OPEN_READONLY, NULL,
                               &f), 0);
  cr_assert_eq (cow_queue_new (io, 1, &q), 0);
  req = (struct cow_request) {
    .op = COW_OP_WRITE, .file = f, .buf = buf, .len = PAGE,
    .done = note_result, .opaque = &result,
  };
  cr_assert_eq (cow_queue_submit (q, &req), 0);
  cr_assert_eq (cow_queue_reap (q, 1, COW_NEVER), 1);
  cr_assert_eq (result, -EBADF);
  cow_queue_free (q);
  cow_file_close (f);
  cow_io_free (io);
  free (buf);
}

/* Several syncs of a file at a time, in the queue and beside it. */
EngineTest (queue_syncs_one_by_one)
{
  struct cow_io *io = new_io (p);
  struct cow_request req[8];
  struct cow_queue *q;
  struct cow_file *f;
  int result[8];

  make_file (PAGE);
  f = open_file (io, p);
  cr_assert_eq (cow_queue_new (io, 8, &q), 0);
  for (unsigned i = 0; i < 8; i++) {
    result[i] = 1;
    req[i] = (struct cow_request) {
      .op = COW_OP_SYNC, .file = f, .done = note_result, .opaque = &result[i],
    };
    cr_assert_eq (cow_queue_submit (q, &req[i]), 0);
  }
  cr_assert_eq (cow_file_sync (f), 0);
  cr_assert_eq (cow_queue_reap (q, 8, COW_NEVER), 8);
  for (unsigned i = 0; i < 8; i++)
    cr_assert_eq (result[i], 0);
  cow_queue_free (q);
  cow_file_close (f);
  cow_io_free (io);
}

EngineTest (queue_free_waits)
{
  struct cow_io *io = new_io (p);
  uint8_t *buf = pages (DEPTH * PAGE, 'w');
  struct cow_request req[DEPTH];
  struct cow_queue *q;
  struct cow_file *f;
  int result[DEPTH];

  make_file (0);
  f = open_file (io, p);
  cr_assert_eq (cow_queue_new (io, DEPTH, &q), 0);
  for (unsigned i = 0; i < DEPTH; i++) {
    result[i] = 1;
    req[i] = (struct cow_request) {
      .op = COW_OP_WRITE, .file = f, .buf = buf + i * PAGE, .len = PAGE,
      .offset = i * PAGE, .done = note_result, .opaque = &result[i],
    };
    cr_assert_eq (cow_queue_submit (q, &req[i]), 0);
  }
  cow_queue_free (q);
  for (unsigned i = 0; i < DEPTH; i++)
    cr_assert_eq (result[i], 0);
  cow_file_close (f);
  cow_io_free (io);
  free (buf);
}

/* A reap that has nothing to wait for, or no time, comes back. */
EngineTest (queue_reap_keeps_its_deadline)
{
  struct cow_io *io = new_io (p);
  struct cow_queue *q;

  cr_assert_eq (cow_queue_new (io, 4, &q), 0);
  cr_assert_eq (cow_queue_reap (q, 1, COW_NEVER), 0);
  cr_assert_eq (cow_queue_reap (q, 0, 0), 0);
  cr_assert_eq (cow_queue_reap (q, 1, cow_now_ns () + COW_NS_PER_MS), 0);
  cow_queue_free (q);
  cow_io_free (io);
}

/* ------------------------------------------------------------------- syncs */

/* An engine whose syncs do what a test says. */
static struct cow_io_ops planned_ops;
static struct cow_io planned = { &planned_ops };
static pthread_mutex_t plan_lock = PTHREAD_MUTEX_INITIALIZER;
static int plan_result;
static unsigned plan_calls, plan_running, plan_most;

static int
planned_sync (struct cow_file *f)
{
  (void) f;
  pthread_mutex_lock (&plan_lock);
  plan_calls++;
  if (++plan_running > plan_most)
    plan_most = plan_running;
  pthread_mutex_unlock (&plan_lock);
  cow_sleep_ns (COW_NS_PER_MS);
  pthread_mutex_lock (&plan_lock);
  plan_running--;
  pthread_mutex_unlock (&plan_lock);
  return plan_result;
}

static struct cow_file *
open_planned (struct cow_io *io)
{
  struct cow_file *f;

  planned_ops = *io->ops;
  planned_ops.sync = planned_sync;
  make_file (PAGE);
  cr_assert_eq (cow_file_open (&planned, path, 0, NULL, &f), 0);
  return f;
}

Test (io, failed_sync_is_final)
{
  struct cow_request req;
  struct cow_queue *q;
  struct cow_file *f;
  struct cow_io *io;
  int result;

  cr_assert_eq (cow_io_new (COW_IO_AUTO, NULL, &io), 0);
  f = open_planned (io);
  cr_assert_eq (cow_file_sync (f), 0);
  plan_result = -EIO;
  cr_assert_eq (cow_file_sync (f), -EIO);
  plan_result = 0;
  cr_assert_eq (cow_file_sync (f), -EIO);
  cr_assert_eq (plan_calls, 2);

  cr_assert_eq (cow_queue_new (io, 1, &q), 0);
  req = (struct cow_request) {
    .op = COW_OP_SYNC, .file = f, .done = note_result, .opaque = &result,
  };
  cr_assert_eq (cow_queue_submit (q, &req), 0);
  cr_assert_eq (cow_queue_reap (q, 1, COW_NEVER), 1);
  cr_assert_eq (result, -EIO);
  cow_queue_free (q);
  cow_file_close (f);
  cow_io_free (io);
}

static void *
sync_often (void *opaque)
{
  intptr_t failed = 0;

  for (unsigned i = 0; i < 20; i++)
    failed += cow_file_sync (opaque) != 0;
  return (void *) failed;
}

Test (io, syncs_of_a_file_run_one_at_a_time)
{
  pthread_t thread[8];
  struct cow_file *f;
  struct cow_io *io;
  void *failed;

  cr_assert_eq (cow_io_new (COW_IO_SYNC, NULL, &io), 0);
  f = open_planned (io);
  for (unsigned i = 0; i < 8; i++)
    cr_assert_eq (pthread_create (&thread[i], NULL, sync_often, f), 0);
  for (unsigned i = 0; i < 8; i++) {
    pthread_join (thread[i], &failed);
    cr_expect_null (failed);
  }
  cr_assert_eq (plan_most, 1);
  /* Each of a thread's calls needs one begun after it. */
  cr_assert (plan_calls >= 20);
  cow_file_close (f);
  cow_io_free (io);
}
