/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DHASH_TESTS_CLIENT_DOCUMENTS_H
#define DHASH_TESTS_CLIENT_DOCUMENTS_H

/* Documents of dhash-protocol(7), as string literals. */

#define DEPLOYMENT(state, label, more)                                                             \
	"{\"id\":\"deploy-20240101-120000\",\"service\":\"dhash\",\"environment\":\"production\"," \
	"\"tag\":\"v1.1.0\",\"previous_tag\":\"v1.0.0\",\"lead\":\"@ops\",\"actor_uid\":1000,"     \
	"\"forced\":false,\"reason\":null,\"state\":\"" state "\",\"label\":\"" label              \
	"\",\"outcome\":\"as it went\",\"created_at\":\"2024-01-01T12:00:00.000Z\","               \
	"\"entered_at\":\"2024-01-01T12:00:09.000Z\",\"ended_at\":\"2024-01-01T12:16:40."          \
	"000Z\"" more "}"
#define EVIDENCE                                                                                   \
	"{\"rule\":\"error-rate\",\"limit\":0.1,\"hold_ms\":300000,\"failures\":0,"                \
	"\"failures_limit\":0,\"value\":0.124,\"lower\":0.11,\"upper\":0.14,\"requests\":1240,"    \
	"\"bad\":154,\"samples\":5,\"since_ms\":130000,\"lasted_ms\":130000,\"text\":\"error "     \
	"rate "                                                                                    \
	"12.4%: over the limit\"}"
#define ENVIRONMENT(verdict, alerts, deployment)                                                   \
	"{\"service\":\"dhash\",\"environment\":\"production\",\"description\":\"d\",\"release\":" \
	"\"v1.1.0\",\"deployment\":" deployment ",\"verdict\":\"" verdict                          \
	"\",\"phase\":{\"name\":"                                                                  \
	"\"critical\",\"left_ms\":750000,\"index\":0,\"count\":3},\"next_sample_ms\":18000,"       \
	"\"health\":{\"result\":\"ok\",\"at\":\"2024-01-01T12:00:00.000Z\",\"detail\":null},"      \
	"\"rules\":[{\"rule\":\"health\",\"mode\":\"enforce\",\"armed\":true,\"verdict\":"         \
	"\"healthy\",\"evidence\":{\"rule\":\"health\",\"failures\":0,\"failures_limit\":3}},"     \
	"{\"rule\":\"error-rate\",\"mode\":\"enforce\",\"armed\":true,\"verdict\":\"suspect\","    \
	"\"evidence\":" EVIDENCE                                                                   \
	"},{\"rule\":\"infrastructure\",\"mode\":\"off\",\"armed\":false}],"                       \
	"\"coverage\":[{\"phase\":\"critical\",\"observed_ms\":147000,\"elapsed_ms\":150000,"      \
	"\"ratio\":0.98},{\"phase\":\"stability\",\"observed_ms\":0,\"elapsed_ms\":0,\"ratio\":"   \
	"null}]"                                                                                   \
	",\"alerts\":[" alerts "],\"asks\":{\"scenario\":\"high error rate\",\"advice\":"          \
	"\"investigate, prepare rollback, within 5min\"}}"
#define STATUS(environments)                                                                       \
	"{\"service_count\":1,\"environments\":[" environments                                     \
	"],\"daemon\":{\"version\":\"0.1.0\",\"uptime_ms\":1,\"state\":\"running\",\"problem\":"   \
	"null}}"
#define WATCHING                                                                                   \
	"{\"id\":\"deploy-20240101-120000\",\"tag\":\"v1.1.0\",\"state\":\"watching\",\"label\":"  \
	"\"watching\",\"live\":true,\"lead\":\"@ops\",\"entered_at\":\"2024-01-01T12:00:09."       \
	"000Z\"}"
#define CRITICAL                                                                                   \
	"{\"cause\":\"error-rate\",\"level\":\"critical\",\"raised_at\":\"2024-01-01T12:00:00."    \
	"000Z\","                                                                                  \
	"\"text\":\"a rollback rule is past half\"}"
#define EVENT(seq, kind, state, text)                                                              \
	"{\"seq\":" #seq ",\"at\":\"2024-01-01T12:00:0" #seq ".000Z\",\"service\":\"dhash\","      \
	"\"environment\":\"production\",\"deployment\":\"deploy-20240101-120000\",\"tag\":\"v1.1." \
	"0\","                                                                                     \
	"\"kind\":\"" kind "\",\"level\":\"info\",\"rule\":null,\"state\":\"" state                \
	"\",\"text\":\"" text "\"}\n"
#define ID "deploy-20240101-120000"
#define BEGUN "{\"id\":\"" ID "\",\"state\":\"queued\"}"

#endif
