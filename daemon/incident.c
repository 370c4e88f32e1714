/* SPDX-License-Identifier: Apache-2.0 */
/* incident-report.md with the guide's headings, filled in from what the store knows. */

#include <inttypes.h>
#include <stdarg.h>
#include <time.h>

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

/* The first alert, where the rollback followed one: what an operator decides by himself is its own
 * cause, and alerts that came later are not.  Stamps of one form compare as text. */
static const char *
detected_at(const json_t *d)
{
	const json_t *first = json_array_get(json_object_get(d, "alerts"), 0);
	const char *raised = json_string_value(json_object_get(first, "raised_at"));
	const char *decided = json_string_value(json_object_get(d, "decided_at"));

	return raised && (!decided || strcmp(raised, decided) < 0) ? raised : decided;
}

static void
timeline(struct text *t, const json_t *d)
{
	bool done = streq(field(d, "state"), "rolled-back");
	const char *detected = detected_at(d);

	timeline_row(t, "Deployment requested", d, "created_at");
	timeline_row(t, "Deployment started", d, "deployed_at");
	timeline_row(t, "Watching began (T+0)", d, "t0_at");
	add(t, "- Issue detected: %s\n", detected ? detected : "did not happen");
	timeline_row(t, "Rollback initiated", d, "decided_at");
	timeline_row(t, done ? "Rollback completed" : "Rollback FAILED", d, "ended_at");
	timeline_row(t, "Service restored", d, "restored_at");
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

static usec_t
seconds_of(const char *stamp)
{
	struct tm tm = {0};

	return stamp && strptime(stamp, "%Y-%m-%dT%H:%M:%S", &tm) ? timegm(&tm) * USEC_PER_SEC : 0;
}

static const char *
duration(const json_t *d, char buf[USEC_TEXT_MAX])
{
	usec_t from = seconds_of(detected_at(d)),
	       to = seconds_of(json_string_value(json_object_get(d, "restored_at")));

	if (to == 0)
		return "not restored when this was written";
	return from > 0 && to >= from ? usec_format(buf, to - from) : "unknown";
}

/* Requests that were answered with an error while this release was watched, as far as was seen. */
static void
impact(struct text *t, const json_t *d)
{
	double bad = 0, total = 0;
	char span[USEC_TEXT_MAX];
	size_t i;
	json_t *s;

	json_array_foreach(json_object_get(d, "samples"), i, s)
	{
		const json_t *rate = json_object_get(s, "rate");

		bad += json_number_value(json_object_get(rate, "bad"));
		total += json_number_value(json_object_get(rate, "total"));
	}
	add(t, "- Duration: %s\n", duration(d, span));
	add(t, "- Requests that failed in the samples kept: %.0f of %.0f\n", bad, total);
	add(t,
	    "- Users affected: [to be filled in by the engineering team]\n"
	    "- Services impacted: %s (%s)\n",
	    field(d, "service"), field(d, "environment"));
}

/* Texts that somebody typed or a service sent must not begin a line, or a heading, of their own. */
static json_t *
on_one_line(const json_t *v)
{
	char *text;
	json_t *copy;

	if (!json_is_string(v))
		return json_deep_copy(v);
	text = str_escape(json_string_value(v));
	copy = json_string(text);
	free(text);
	return copy;
}

static json_t *
texts_on_one_line(const json_t *v)
{
	const char *key;
	json_t *copy, *child;
	size_t i;

	if (json_is_object(v)) {
		copy = json_object();
		json_object_foreach((json_t *)v, key, child)
			json_object_set_new(copy, key, texts_on_one_line(child));
	} else if (json_is_array(v)) {
		copy = json_array();
		json_array_foreach(v, i, child)
			json_array_append_new(copy, texts_on_one_line(child));
	} else {
		copy = on_one_line(v);
	}
	return copy;
}

static char *
report(const json_t *d)
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

char *
incident_report(const json_t *deployment)
{
	json_t *d = texts_on_one_line(deployment);
	char *text = report(d);

	json_decref(d);
	return text;
}
