/* SPDX-License-Identifier: Apache-2.0 */
/* incident-report.md with the guide's headings, filled in from what the store knows. */

#include <inttypes.h>
#include <stdarg.h>

#include "common/util.h"
#include "daemon/session.h"

struct text {
	char *s; /* owned */
	size_t len;
};

__attribute__((format(printf, 2, 3))) static void
add(struct text *t, const char *fmt, ...)
{
	va_list ap, again;
	int n;

	va_start(ap, fmt);
	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, ap);
	t->s = xrealloc(t->s, t->len + (size_t)n + 1);
	vsnprintf(t->s + t->len, (size_t)n + 1, fmt, again);
	t->len += (size_t)n;
	va_end(again);
	va_end(ap);
}

static const char *
field(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s && *s ? s : "unknown";
}

static void
timeline_row(struct text *t, const char *what, const json_t *o, const char *key)
{
	const char *at = json_string_value(json_object_get(o, key));

	add(t, "- %s: %s\n", what, at ? at : "did not happen");
}

static void
timeline(struct text *t, const json_t *d)
{
	const json_t *first = json_array_get(json_object_get(d, "alerts"), 0);
	bool seen = json_is_string(json_object_get(first, "raised_at"));

	timeline_row(t, "Deployment requested", d, "created_at");
	timeline_row(t, "Deployment started", d, "deployed_at");
	timeline_row(t, "Watching began (T+0)", d, "t0_at");
	timeline_row(t, "Issue detected", seen ? first : d, seen ? "raised_at" : "decided_at");
	timeline_row(t, "Rollback initiated", d, "decided_at");
	timeline_row(t, "Service restored", d, "restored_at");
	timeline_row(t, "Rollback completed", d, "ended_at");
}

static void
decisions(struct text *t, const json_t *d)
{
	size_t i;
	json_t *dec;

	json_array_foreach(json_object_get(d, "decisions"), i, dec)
	{
		const json_t *ev = json_object_get(dec, "evidence");

		add(t, "- %s %s (%s): %s\n", field(dec, "at"), field(dec, "kind"),
		    json_is_true(json_object_get(dec, "automatic")) ? "automatic" : "operator",
		    field(dec, "text"));
		if (json_is_string(json_object_get(ev, "text")))
			add(t, "  - evidence: %s\n", field(ev, "text"));
	}
}

static void
alerts(struct text *t, const json_t *d)
{
	size_t i;
	json_t *a;

	json_array_foreach(json_object_get(d, "alerts"), i, a)
		add(t, "- %s %s %s: %s\n", field(a, "raised_at"), field(a, "level"),
		    field(a, "cause"), field(a, "text"));
	if (json_array_size(json_object_get(d, "alerts")) == 0)
		add(t, "- none\n");
}

/* Requests that were answered with an error while this release was watched, as far as was seen. */
static void
impact(struct text *t, const json_t *d)
{
	double bad = 0, total = 0;
	size_t i;
	json_t *s;

	json_array_foreach(json_object_get(d, "samples"), i, s)
	{
		const json_t *rate = json_object_get(s, "rate");

		bad += json_number_value(json_object_get(rate, "bad"));
		total += json_number_value(json_object_get(rate, "total"));
	}
	add(t, "- Requests that failed in the samples kept: %.0f of %.0f\n", bad, total);
	add(t,
	    "- Users affected: [to be filled in by the engineering team]\n"
	    "- Services impacted: %s (%s)\n",
	    field(d, "service"), field(d, "environment"));
}

char *
incident_report(const json_t *d)
{
	struct text t = {0};

	add(&t, "# Incident Report: Rollback %s\n\n## Summary\n", field(d, "decided_at"));
	add(&t, "- **Service:** %s\n- **Environment:** %s\n- **Release Tag:** %s\n",
	    field(d, "service"), field(d, "environment"), field(d, "tag"));
	add(&t, "- **Previous Release:** %s\n- **Rollback Time:** %s\n- **Operator:** %s\n",
	    field(d, "previous_tag"), field(d, "restored_at"), field(d, "lead"));
	add(&t, "- **Outcome:** %s (%s)\n- **Restored from:** %s%s\n", field(d, "state"),
	    field(d, "outcome"), field(d, "target"),
	    json_is_true(json_object_get(d, "target_verified")) ? "" : " (NOT verified)");
	add(&t, "\n## Timeline\n");
	timeline(&t, d);
	add(&t, "\n## Trigger\n- %s\n\n## Decisions\n", field(d, "rollback_reason"));
	decisions(&t, d);
	add(&t, "\n## Alerts\n");
	alerts(&t, d);
	add(&t, "\n## Root Cause\n[To be filled by engineering team]\n\n## Impact\n");
	impact(&t, d);
	add(&t, "\n## Action Items\n- [ ] Root cause analysis\n- [ ] Fix implementation\n"
		"- [ ] Additional testing\n- [ ] Process improvements\n");
	return t.s;
}
