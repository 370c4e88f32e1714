/* SPDX-License-Identifier: Apache-2.0 */

#include <check.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/util.h"
#include "daemon/core/machine.h"

/* The table in dhashd(8) is this table, row by row. */
START_TEST(the_manual_has_the_same_table)
{
	static const char *const conditions[] = {"", " (backups)", " (undone)",
						 " (undone, backups)"};
	char *text, *p;
	size_t len;

	ck_assert_int_eq(file_read(-100, "man/dhashd.8", 1 << 20, &text, &len), 0);
	p = strstr(text, ".It Em State Ta Em Trigger Ta Em Next\n");
	ck_assert_ptr_nonnull(p);
	p = strchr(p, '\n') + 1;
	for (unsigned i = 0; i < machine_table_len; i++) {
		const struct transition *t = &machine_table[i];
		char *row = xasprintf(".It %s Ta %s%s Ta %s\n", dstate_name(t->from),
				      trigger_name(t->on), conditions[t->condition],
				      dstate_name(t->to));

		ck_assert_msg(strncmp(p, row, strlen(row)) == 0, "row %u: expected %s", i, row);
		p += strlen(row);
		free(row);
	}
	ck_assert_int_eq(strncmp(p, ".El\n", 4), 0);
	free(text);
}
END_TEST

START_TEST(every_state_is_reached_and_left)
{
	for (int s = 0; s < _DSTATE_MAX; s++) {
		bool reached = s == DS_QUEUED, left = false;

		for (unsigned i = 0; i < machine_table_len; i++) {
			reached |= (int)machine_table[i].to == s;
			left |= (int)machine_table[i].from == s;
		}
		ck_assert_msg(reached, "%s is never reached", dstate_name(s));
		ck_assert_msg(left, "%s is never left", dstate_name(s));
	}
}
END_TEST

/* Every state × trigger: an ended deployment goes nowhere but back, and only on an operator's word.
 */
START_TEST(ended_means_ended)
{
	for (int s = 0; s < _DSTATE_MAX; s++)
		for (int t = 0; t < _TRIGGER_MAX; t++) {
			const struct transition *row = machine_find(s, t, true, false);

			if (dstate_ended(s))
				ck_assert_msg((row != NULL) == (t == TR_ROLLBACK), "%s on %s",
					      dstate_name(s), trigger_name(t));
			if (row && t == TR_BREACH)
				ck_assert_int_eq(row->to, DS_RB_SAVING);
		}
}
END_TEST

START_TEST(conditions)
{
	ck_assert_int_eq(machine_find(DS_GATES, TR_OK, true, false)->to, DS_BACKUP);
	ck_assert_int_eq(machine_find(DS_GATES, TR_OK, false, false)->to, DS_DEPLOYING);
	ck_assert_int_eq(machine_find(DS_DEPLOYING, TR_OK, false, false)->to, DS_SETTLING);
	ck_assert_int_eq(machine_find(DS_DEPLOYING, TR_OK, false, true)->to, DS_RB_CHOOSING);
	ck_assert_int_eq(machine_find(DS_DEPLOYING, TR_OK, true, true)->to, DS_RB_SAVING);
	ck_assert_int_eq(machine_find(DS_WATCHING, TR_BREACH, false, false)->to, DS_RB_CHOOSING);
	ck_assert_ptr_null(machine_find(DS_WATCHING, TR_ABORT, true, false));
}
END_TEST

START_TEST(names_go_both_ways)
{
	for (int s = 0; s < _DSTATE_MAX; s++)
		ck_assert_int_eq(dstate_from_name(dstate_name(s)), s);
	ck_assert_int_lt(dstate_from_name("nonsense"), 0);
	ck_assert_str_eq(dstate_label(DS_RB_CHOOSING), "rolling-back");
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("machine");
	TCase *t = tcase_create("table");
	SRunner *r;
	int failed;

	tcase_add_test(t, the_manual_has_the_same_table);
	tcase_add_test(t, every_state_is_reached_and_left);
	tcase_add_test(t, ended_means_ended);
	tcase_add_test(t, conditions);
	tcase_add_test(t, names_go_both_ways);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
