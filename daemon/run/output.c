/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/run/output.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "common/util.h"

int
output_open(struct output *o, const char *path, size_t max_bytes)
{
	o->max_bytes = max_bytes;
	o->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW, 0640);
	return o->fd < 0 ? -errno : 0;
}

static bool
write_all(struct output *o, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = write(o->fd, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		o->last = data[n - 1];
		data += n;
		len -= (size_t)n;
	}
	return true;
}

static void
end_line(struct output *o)
{
	/* A NUL would hide the rest of its line. */
	for (size_t i = 0; i < o->line_len; i++)
		if (o->line[i] == '\0')
			o->line[i] = ' ';
	if (o->line_len > 0)
		log_event(LOG_KIND_HOOK_OUTPUT, LOG_INFO, &o->fields, "%.*s", (int)o->line_len,
			  o->line);
	o->line_len = 0;
}

static void
to_journal(struct output *o, const char *data, size_t len)
{
	for (size_t i = 0; o->journal && i < len; i++) {
		if (data[i] == '\n' || o->line_len == sizeof o->line)
			end_line(o);
		if (data[i] != '\n')
			o->line[o->line_len++] = data[i];
	}
}

void
output_take(struct output *o, const char *data, size_t len)
{
	size_t room = o->max_bytes - MIN(o->max_bytes, o->logged_bytes), kept = MIN(len, room);
	char note[80];

	o->bytes += len;
	if (o->truncated)
		return;
	o->logged_bytes += kept;
	to_journal(o, data, kept);
	/* A full disk costs the log, not the deployment. */
	o->truncated = !write_all(o, data, kept) || len > room;
	if (!o->truncated)
		return;
	snprintf(note, sizeof note, "%s[output truncated after %zu bytes]\n",
		 o->last == '\n' || o->logged_bytes == 0 ? "" : "\n", (size_t)o->logged_bytes);
	write_all(o, note, strlen(note));
	to_journal(o, note, strlen(note));
}

void
output_flush(struct output *o)
{
	end_line(o);
}

void
output_close(struct output *o)
{
	if (o->fd >= 0)
		close(o->fd);
	o->fd = -1;
}
