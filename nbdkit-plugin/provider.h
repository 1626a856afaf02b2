/* provider.h - who makes snapshots: the phases of a provider.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * A provider takes part in a set for some of its volumes, and is called once in
 * each phase of the set.  The phases are those of VSS, in this order:
 *
 *   BeginPrepareSnapshot       for each volume, as it is added
 *   EndPrepareSnapshots        may take minutes; nothing is held
 *   PreCommitSnapshots         writers are frozen; volumes are not held
 *   CommitSnapshots            the volumes are held: between the closing of
 *                              the last gate and the switch
 *   PostCommitSnapshots        volumes flow again, writers are still frozen
 *   PreFinalCommitSnapshots    writers have thawed
 *   PostFinalCommitSnapshots   from here on the set is listed
 *   AbortSnapshots             instead of what would follow, once
 *                              EndPrepareSnapshots has been called; may come
 *                              beside a phase that runs, which it has to end
 *
 * Flushing, holding and the instant itself are the engine's (cow.h), for all
 * providers alike, as the file systems and volsnap have them in VSS; so `cow`,
 * whose snapshots are the engine's, has nothing to do in most phases.
 *
 * Failures.  A provider answers with one of the codes that VSS lets it answer
 * with, and says why.  Whatever else it answers is said in the log and reaches
 * the requester as VSS_E_UNEXPECTED_PROVIDER_ERROR.  Every failure fails the
 * set.
 *
 * Threads: any, several sets at once; the phases of one set come one after
 * another, but for abort.
 */
#ifndef COWSET_PROVIDER_H
#define COWSET_PROVIDER_H

#include "plugin.h"
#include "protocol/cowset-codes.h"

#define PROVIDERS_MAX 16

enum provider_phase {
  PROVIDER_END_PREPARE,
  PROVIDER_PRE_COMMIT,
  PROVIDER_COMMIT,
  PROVIDER_POST_COMMIT,
  PROVIDER_PRE_FINAL_COMMIT,
  PROVIDER_POST_FINAL_COMMIT,
};

struct provider;

/* Each fails with a code and the reason in why. */
struct provider_ops {
  /* Whether it can make snapshots of this volume in this context. */
  cowset_hresult (*is_supported) (struct provider *p, const char *volume,
                                  uint32_t context, bool *supported,
                                  struct cow_error *why);

  /* The others may be NULL: nothing to do. */
  cowset_hresult (*begin_prepare) (struct provider *p,
                                   const struct cow_id *set,
                                   const struct cow_id *snapshot,
                                   const char *volume, struct cow_error *why);
  /* count is that of the provider's snapshots in the set. */
  cowset_hresult (*run) (struct provider *p, enum provider_phase phase,
                         const struct cow_id *set, unsigned count,
                         struct cow_error *why);
  /* Does not wait. */
  cowset_hresult (*abort) (struct provider *p, const struct cow_id *set);

  /* Whether a finished snapshot is one of this provider's. */
  bool (*has) (struct provider *p, const struct cow_id *snapshot);
  /* Before a snapshot of it is deleted at a requester's wish; a failure keeps
   * the snapshot.
   */
  cowset_hresult (*delete) (struct provider *p, const struct cow_id *snapshot,
                            const char *volume, struct cow_error *why);
};

struct provider {
  const struct provider_ops *ops;
  struct proto_id id;
  const char *name;
  enum cowset_provider_type type;
};

extern struct provider provider_cow;

/* ------------------------------------------------------------------ which */

/* While the command line is read.  -1 after nbdkit_error. */
int provider_register (struct provider *p);

/* The i-th of those that are registered, or NULL. */
struct provider *provider_at (unsigned i);
struct provider *provider_find (const struct proto_id *id);

/* Whose snapshot it is: of `cow` where nobody else says that it has it. */
struct provider *provider_of (const struct cow_id *snapshot);

/* Choose the provider of a volume: the one that is named, or the first that
 * supports it: hardware before software before system, in the order of
 * registration.  VSS_E_VOLUME_NOT_SUPPORTED[_BY_PROVIDER] if there is none.
 */
cowset_hresult provider_choose (struct provider *named, const char *volume,
                                uint32_t context, struct provider **out,
                                struct cow_error *why);

/* ------------------------------------------------------------------ calls */

/* As above, with the code that the requester gets. */
cowset_hresult provider_begin (struct provider *p, const struct cow_id *set,
                               const struct cow_id *snapshot,
                               const char *volume, struct cow_error *why);
cowset_hresult provider_run (struct provider *p, enum provider_phase phase,
                             const struct cow_id *set, unsigned count,
                             struct cow_error *why);
void provider_abort (struct provider *p, const struct cow_id *set);
cowset_hresult provider_delete (struct provider *p,
                                const struct cow_id *snapshot,
                                const char *volume, struct cow_error *why);

/* "EndPrepareSnapshots". */
const char *provider_phase_name (enum provider_phase phase);

/* ---------------------------------------------------------- provider-test.c */

/* debug-provider=TYPE:ID:FILE */
int provider_test_config (const char *key, const char *value);
void provider_test_free (void);

#endif /* COWSET_PROVIDER_H */
