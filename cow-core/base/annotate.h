/* annotate.h - what the compilers are told about locks and formats.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * clang checks the lock annotations (-Wthread-safety); gcc ignores them.
 */
#ifndef COW_BASE_ANNOTATE_H
#define COW_BASE_ANNOTATE_H

#if defined(__clang__)
#define COW_TSA_(x) __attribute__ ((x))
#else
#define COW_TSA_(x)
#endif

#define COW_CAPABILITY(name) COW_TSA_ (capability (name))
#define COW_ACQUIRE(...) COW_TSA_ (acquire_capability (__VA_ARGS__))
#define COW_RELEASE(...) COW_TSA_ (release_capability (__VA_ARGS__))
#define COW_REQUIRES(...) COW_TSA_ (requires_capability (__VA_ARGS__))
#define COW_ASSERTS(...) COW_TSA_ (assert_capability (__VA_ARGS__))
#define COW_NO_ANALYSIS COW_TSA_ (no_thread_safety_analysis)

#define COW_PRINTF(fmt, args) __attribute__ ((format (printf, fmt, args)))
#define COW_LIKELY(x) __builtin_expect (!!(x), 1)
#define COW_UNLIKELY(x) __builtin_expect (!!(x), 0)
#define COW_CACHE_LINE 64

#define STATIC_ASSERT(expr) _Static_assert (expr, #expr)

#endif /* COW_BASE_ANNOTATE_H */
