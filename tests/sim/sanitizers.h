/* sanitizers.h - telling the sanitizers which stack is running.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef SIM_SANITIZERS_H
#define SIM_SANITIZERS_H

#include <dlfcn.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <ucontext.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SIM_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define SIM_TSAN 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define SIM_ASAN 1
#endif
#ifdef __SANITIZE_THREAD__
#define SIM_TSAN 1
#endif

#ifdef SIM_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef SIM_TSAN
#include <sanitizer/tsan_interface.h>
#endif

typedef int (*sim_swapcontext_function) (ucontext_t *, const ucontext_t *);
static sim_swapcontext_function sim_swapcontext = swapcontext;

/* The address sanitizer's own swapcontext warns that it does not know fibres.
 * It is told of ours; so the C library's is taken.
 */
static inline void
sim_sanitizers_init (void)
{
#ifdef SIM_ASAN
  void *libc = dlopen ("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
  union {
    void *object;
    sim_swapcontext_function function;
  } found;

  if (libc == NULL || (found.object = dlsym (libc, "swapcontext")) == NULL)
    abort ();
  sim_swapcontext = found.function;
  dlclose (libc);
#endif
}

struct sim_stack {
  void *mapping;                /* with the guard; NULL: the thread's own */
  const void *bottom;
  size_t bytes;
  void *fake;                   /* of the address sanitizer */
  void *tsan;
};

/* The stack of the thread itself is about to be left for the first time. */
static inline void
sim_stack_main (struct sim_stack *s)
{
#ifdef SIM_TSAN
  s->tsan = __tsan_get_current_fiber ();
#endif
  (void) s;
}

/* Nothing is on the stack any more, whatever was left there. */
static inline void
sim_stack_fresh (struct sim_stack *s)
{
  s->fake = NULL;
#ifdef SIM_ASAN
  __asan_unpoison_memory_region (s->bottom, s->bytes);
#endif
#ifdef SIM_TSAN
  /* A new one each time: those who ended have not returned from anything. */
  if (s->tsan)
    __tsan_destroy_fiber (s->tsan);
  s->tsan = __tsan_create_fiber (0);
#endif
}

/* Before the change from one stack to another. */
static inline void
sim_stack_leave (struct sim_stack *from, struct sim_stack *to, bool ending)
{
#ifdef SIM_ASAN
  __sanitizer_start_switch_fiber (ending ? NULL : &from->fake, to->bottom,
                                  to->bytes);
#endif
#ifdef SIM_TSAN
  __tsan_switch_to_fiber (to->tsan, 0);
#endif
  (void) from;
  (void) to;
  (void) ending;
}

/* After it, on the new stack. */
static inline void
sim_stack_arrived (struct sim_stack *self, struct sim_stack *from)
{
#ifdef SIM_ASAN
  __sanitizer_finish_switch_fiber (self->fake, &from->bottom, &from->bytes);
#endif
  (void) self;
  (void) from;
}

#endif /* SIM_SANITIZERS_H */
