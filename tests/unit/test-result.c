/* test-result.c - result codes and contexts.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <config.h>

#include <ctype.h>
#include <string.h>

#include <criterion/criterion.h>

#include "protocol/context.h"
#include "protocol/result.h"

TestSuite (result, .timeout = 60);

Test (result, the_table_is_in_order_and_complete)
{
  cowset_hresult hr, previous = S_OK;
  unsigned n;

  for (n = 0; proto_result_at (n, &hr); ++n) {
    if (n > 0)
      cr_assert_gt ((uint32_t) hr, (uint32_t) previous);
    previous = hr;
    cr_assert_not_null (proto_result_name (hr));
  }
  cr_assert_eq (n, 93);
  cr_assert_not (proto_result_at (UINT32_MAX, &hr));
}

Test (result, name_and_value_find_each_other)
{
  cowset_hresult hr, back;

  for (unsigned i = 0; proto_result_at (i, &hr); ++i) {
    cr_assert (proto_result_parse (proto_result_name (hr), &back));
    cr_assert_eq (back, hr, "%s", proto_result_name (hr));
  }
  cr_assert_not (proto_result_parse ("VSS_E_", &back));
  cr_assert_not (proto_result_parse ("", &back));
}

Test (result, values_of_vss)
{
  cr_assert_eq ((uint32_t) VSS_E_BAD_STATE, 0x80042301);
  cr_assert_eq ((uint32_t) VSS_E_HOLD_WRITES_TIMEOUT, 0x80042314);
  cr_assert_eq ((uint32_t) VSS_E_INSUFFICIENT_STORAGE, 0x8004231f);
  cr_assert_eq ((uint32_t) VSS_E_BREAK_REVERT_ID_FAILED, 0x800423f6);
  cr_assert_eq (VSS_S_ASYNC_PENDING, 0x42309);
  cr_assert_eq ((uint32_t) E_UNEXPECTED, 0x8000ffff);
  cr_assert_eq ((uint32_t) E_ACCESSDENIED, 0x80070005);
  /* As a signed number, the way it travels. */
  cr_assert_eq (VSS_E_BAD_STATE, -2147212543);
}

Test (result, failures_are_negative_and_successes_are_not)
{
  cowset_hresult hr;

  for (unsigned i = 0; proto_result_at (i, &hr); ++i) {
    const char *name = proto_result_name (hr);
    bool success = strncmp (name, "S_", 2) == 0 || strstr (name, "_S_");

    cr_assert_eq (COWSET_SUCCEEDED (hr), success, "%s", name);
    cr_assert_eq (proto_result_retry (hr) == COWSET_RETRY_NONE, success,
                  "%s", name);
  }
}

/* Messages are put together from these: "what: which: why; what to do". */
Test (result, cause_and_advice_are_of_the_house_style)
{
  cowset_hresult hr;

  for (unsigned i = 0; proto_result_at (i, &hr); ++i) {
    const char *both[] = { proto_result_cause (hr),
                           proto_result_advice (hr) };

    for (unsigned k = 0; k < 2; ++k) {
      cr_assert_not_null (both[k]);
      cr_assert_gt (strlen (both[k]), 3);
      cr_assert_not (isupper ((unsigned char) both[k][0]), "%s", both[k]);
      cr_assert_neq (both[k][strlen (both[k]) - 1], '.', "%s", both[k]);
      cr_assert_null (strchr (both[k], '\n'), "%s", both[k]);
      cr_assert_null (strstr (both[k], "  "), "%s", both[k]);
      cr_assert_null (strstr (both[k], "- "), "%s", both[k]);
    }
  }
}

Test (result, unknown_values_have_no_name_but_a_line)
{
  static const cowset_hresult unknown[] = {
    COWSET_HRESULT (0x80042305), COWSET_HRESULT (0x8004231c),
    COWSET_HRESULT (0x00042308), COWSET_HRESULT (0xffffffff),
  };

  for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; ++i) {
    cr_assert_null (proto_result_name (unknown[i]));
    cr_assert_not_null (proto_result_cause (unknown[i]));
    cr_assert_not_null (proto_result_advice (unknown[i]));
  }
}

/* Exactly the codes for which VSS says "ten minutes, three times". */
Test (result, retry_later_is_for_the_seven_codes_that_vss_names)
{
  static const cowset_hresult later[] = {
    VSS_E_FLUSH_WRITES_TIMEOUT, VSS_E_HOLD_WRITES_TIMEOUT,
    VSS_E_PROVIDER_VETO, VSS_E_UNEXPECTED_PROVIDER_ERROR,
    VSS_E_WRITERERROR_OUTOFRESOURCES, VSS_E_WRITERERROR_TIMEOUT,
    VSS_E_WRITERERROR_RETRYABLE,
  };
  unsigned found = 0;
  cowset_hresult hr;

  for (unsigned i = 0; proto_result_at (i, &hr); ++i)
    found += proto_result_retry (hr) == COWSET_RETRY_LATER;
  cr_assert_eq (found, sizeof later / sizeof later[0]);
  for (size_t i = 0; i < sizeof later / sizeof later[0]; ++i)
    cr_assert_eq (proto_result_retry (later[i]), COWSET_RETRY_LATER);
  cr_assert_eq (proto_result_retry (VSS_E_SNAPSHOT_SET_IN_PROGRESS),
                COWSET_RETRY_WHEN_FREE);
  cr_assert_eq (proto_result_retry (VSS_E_INSUFFICIENT_STORAGE),
                COWSET_RETRY_AFTER_DELETE);
  cr_assert_eq (proto_result_retry (VSS_E_BAD_STATE), COWSET_RETRY_NEVER);
  cr_assert_eq (proto_result_retry (VSS_E_REBOOT_REQUIRED),
                COWSET_RETRY_AFTER_RESTART);
}

TestSuite (context, .timeout = 60);

static const struct {
  const char *name;
  uint32_t bits;
  bool persistent, auto_release, writers;
} contexts[] = {
  { "backup", 0x00, false, true, true },
  { "file-share-backup", 0x10, false, true, false },
  { "nas-rollback", 0x19, true, false, false },
  { "app-rollback", 0x09, true, false, true },
  { "client-accessible", 0x1d, true, false, false },
  { "client-accessible-writers", 0x0d, true, false, true },
};
#define CONTEXTS (sizeof contexts / sizeof contexts[0])

Test (context, the_six)
{
  for (size_t i = 0; i < CONTEXTS; ++i) {
    uint32_t bits = contexts[i].bits, parsed = 0xdead;

    cr_assert (proto_context_valid (bits));
    cr_assert_str_eq (proto_context_name (bits), contexts[i].name);
    cr_assert (proto_context_parse (contexts[i].name, &parsed));
    cr_assert_eq (parsed, bits);
    cr_assert_eq (proto_context_persistent (bits), contexts[i].persistent);
    cr_assert_eq (proto_context_auto_release (bits),
                  contexts[i].auto_release);
    cr_assert_eq (proto_context_has_writers (bits), contexts[i].writers);
  }
}

/* All values of the low byte: the six, with their modifiers, and no other. */
Test (context, no_other_combination_of_the_low_bits)
{
  for (uint32_t bits = 0; bits < 0x100; ++bits) {
    const uint32_t mods = bits & PROTO_CONTEXT_MODIFIERS;
    bool expected = false;

    for (size_t i = 0; i < CONTEXTS; ++i)
      if (contexts[i].bits == (bits & ~PROTO_CONTEXT_MODIFIERS))
        expected = mods == 0 ||
                   !(contexts[i].bits & VSS_VOLSNAP_ATTR_CLIENT_ACCESSIBLE);
    cr_assert_eq (proto_context_valid (bits), expected, "0x%x", bits);
  }
}

Test (context, modifiers)
{
  cr_assert (proto_context_valid (VSS_CTX_ALL));
  cr_assert (proto_context_valid (VSS_CTX_NAS_ROLLBACK |
                                  VSS_VOLSNAP_ATTR_DIFFERENTIAL));
  cr_assert_not (proto_context_valid (VSS_VOLSNAP_ATTR_DIFFERENTIAL |
                                      VSS_VOLSNAP_ATTR_PLEX));
  cr_assert_not (proto_context_valid (VSS_CTX_CLIENT_ACCESSIBLE |
                                      VSS_VOLSNAP_ATTR_DIFFERENTIAL));
  /* Bits that only a coordinator or a provider may set. */
  cr_assert_not (proto_context_valid (VSS_VOLSNAP_ATTR_IMPORTED));
  cr_assert_not (proto_context_valid (VSS_VOLSNAP_ATTR_HARDWARE_ASSISTED));
  cr_assert_not (proto_context_valid (UINT32_C (0x80000000)));
}

Test (context, text)
{
  uint32_t bits = 0xdead;

  cr_assert (proto_context_parse ("VSS_CTX_APP_ROLLBACK", &bits));
  cr_assert_eq (bits, VSS_CTX_APP_ROLLBACK);
  cr_assert (proto_context_parse ("Nas-Rollback+differential+"
                                  "not-transacted", &bits));
  cr_assert_eq (bits, VSS_CTX_NAS_ROLLBACK | VSS_VOLSNAP_ATTR_DIFFERENTIAL |
                        VSS_VOLSNAP_ATTR_NOT_TRANSACTED);
  bits = 0xdead;
  cr_assert_not (proto_context_parse ("", &bits));
  cr_assert_not (proto_context_parse ("backup+", &bits));
  cr_assert_not (proto_context_parse ("+plex", &bits));
  cr_assert_not (proto_context_parse ("backup+plex+differential", &bits));
  cr_assert_not (proto_context_parse ("all+plex", &bits));
  cr_assert_not (proto_context_parse ("backups", &bits));
  cr_assert_eq (bits, 0xdead);
}

Test (context, a_query_shows_its_own_context_only)
{
  cr_assert (proto_context_shows (VSS_CTX_ALL, VSS_CTX_APP_ROLLBACK));
  cr_assert (proto_context_shows (VSS_CTX_APP_ROLLBACK,
                                  VSS_CTX_APP_ROLLBACK |
                                    VSS_VOLSNAP_ATTR_DIFFERENTIAL));
  cr_assert_not (proto_context_shows (VSS_CTX_BACKUP, VSS_CTX_APP_ROLLBACK));
  cr_assert_not (proto_context_shows (VSS_CTX_NAS_ROLLBACK,
                                      VSS_CTX_APP_ROLLBACK));
}
