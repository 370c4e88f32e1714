#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The main job on real programs, in well under 90 seconds: a sample service under load gets a good
# release, then a bad one, and dhashd takes the bad one back by itself.  Everything lives in a
# temporary folder and on loopback; phases and hold times are short by configuration alone.
# Exits 0 only if all of it really happened.  DHASH_DEMO_KEEP=1 keeps the folder.
set -euo pipefail

build=$(realpath "${DHASH_BUILD:-build}")
work=$(mktemp -d "${TMPDIR:-/tmp}/dhash-demo.XXXXXX")
began=$SECONDS
pids=()
failures=0
bold='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR-}" ]; then bold=$'\e[1m' plain=$'\e[0m'; fi

step() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }
fail() { printf 'demo: %s\n' "$*" >&2; exit 1; }

# within SECONDS COMMAND...: repeats the command until it succeeds, or gives up.
within() {
	local deadline=$((SECONDS + $1))
	shift
	until "$@"; do
		[ $SECONDS -lt $deadline ] || return 1
		sleep 0.05
	done
}
gone() { ! kill -0 "$1" 2>/dev/null; }
fetch() { "$build/tests/lib/loadgen" --once --url "http://127.0.0.1:$port/$1" 2>/dev/null; }
answers() { [ "$(fetch "$1")" = "$2" ]; }
dhash() { "$build/dhash" --socket "$work/dhashd.sock" "$@"; }
show_status() { dhash status || [ $? -lt 64 ]; } # below: what it says of the services, all shown

stop() { # PID
	gone "$1" && return
	kill -TERM "$1"
	within 5 gone "$1" && return
	printf 'demo: process %s ignores SIGTERM: killed\n' "$1" >&2
	kill -KILL "$1"
	within 5 gone "$1"
}

cleanup() {
	local status=$? pid
	trap - EXIT
	for pid in "${pids[@]}"; do
		stop "$pid" || status=1
	done
	if [ "$status" != 0 ] && [ -s "$work/dhashd.log" ]; then
		printf 'demo: failed (status %s)\n' "$status" >&2
		printf '\n-- journal of dhashd (last lines)\n' >&2
		tail -n 40 "$work/dhashd.log" >&2
	fi
	if [ -n "${DHASH_DEMO_KEEP-}" ]; then
		printf 'kept: %s\n' "$work"
	else
		rm -rf "$work"
	fi
	exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# --- the service: releases are tar archives with a program `run`, as a build server would leave them

make_release() { # TAG OPTION...
	local tag=$1 folder
	shift
	folder=$work/build/$tag
	mkdir -p "$folder" "$work/artifacts"
	printf '#!/bin/sh\nexec %q --port %q --tag %q %s\n' \
		"$build/tests/lib/sampled" "$port" "$tag" "$*" >"$folder/run"
	chmod 755 "$folder/run"
	tar -C "$folder" -czf "$work/artifacts/hello-$tag.tar.gz" run
}

# Stands where systemd would: keeps whatever release `current` names running.
supervise() {
	local child=
	trap 'kill "$child" 2>/dev/null; wait "$child"; exit 0' TERM
	while :; do
		"$work/hello/current/run" &
		child=$!
		echo "$child" >"$work/hello.pid.new"
		mv "$work/hello.pid.new" "$work/hello.pid"
		wait "$child" || :
		sleep 0.1 # a release that cannot start must not spin
	done
}

write_restart_hook() {
	cat >"$work/restart-hello" <<SCRIPT
#!/bin/bash
# Restart= hook: ends the running process; its supervisor starts the release that is in place now.
echo "restarting hello for release \$1"
kill -TERM "\$(cat '$work/hello.pid')" || exit 1
for _ in {1..200}; do
	[ "\$('$build/tests/lib/loadgen' --once --url http://127.0.0.1:$port/version)" = "\$1" ] && exit 0
	sleep 0.05
done
echo "release \$1 does not answer"
exit 1
SCRIPT
	chmod 755 "$work/restart-hello"
}

write_configuration() {
	mkdir -p "$work/etc/services.d" "$work/state"
	cat >"$work/etc/services.d/hello.conf" <<CONF
[Service]
Description=Sample service of the demo
WorkingDirectory=$work/hello

[Environment demo]
HealthURL=http://127.0.0.1:$port/health
MetricsURL=http://127.0.0.1:$port/metrics
Artifact=$work/artifacts/hello-%t.tar.gz
Releases=$work/hello
Restart=$work/restart-hello %t
Settle=1s
Timeout=2s
Recheck=500ms
VerifyInterval=500ms
VerifyTimeout=20s
PostWatch=5s
PostInterval=1s

[Phase critical]
Until=4s
Interval=500ms
[Phase stability]
Until=8s
Interval=1s
[Phase extended]
Until=14s
Interval=1s

[Rule health]
Failures=3
[Rule error-rate]
Limit=10%
For=5s
[Rule latency-p95]
Limit=5000ms
For=10s

[Metrics]
Requests=http_requests_total
Errors=http_requests_total{code=~"5.."}
Latency=http_request_duration_seconds
CONF
	"$build/dhashd" -t -c "$work/etc"
}

# --- checks of the end: each prints what was found

check() { # TEXT COMMAND...
	local text=$1
	shift
	if "$@"; then
		printf '  yes  %s\n' "$text"
	else
		printf '  NO   %s\n' "$text"
		failures=$((failures + 1))
	fi
}
# The command's JSON without its blanks.
json() {
	local text
	text=$(dhash "$@" --json) || [ $? -lt 64 ] || return
	printf '%s' "${text//[[:space:]]/}"
}
json_has() { # TEXT COMMAND...
	[[ $(json "${@:2}") == *"$1"* ]]
}
json_first() { # KEY COMMAND...: the first string of that name
	[[ $(json "${@:2}") =~ \"$1\":\"([^\"]*)\" ]] && printf '%s' "${BASH_REMATCH[1]}"
}
no_errors_now() { tail -n 1 "$work/load.log" | grep -qE '^second .*ok=[1-9][0-9]* errors=0 failed=0'; }
errors_before() { grep -qE '^second .* errors=[1-9]' "$work/load.log"; }
journal_says() { grep -qiE "$bad_id.*$1" "$work/dhashd.log"; }
session_has() { [ -s "$session/$1" ]; }
session_says() { grep -sqiE "$2" "$session/$1"; }

deploy() { # TAG: shows the watching live; the exit code lands in $code
	printf '$ dhash deploy --env demo --tag %s\n' "$1"
	code=0
	timeout --foreground 60 "$build/dhash" --socket "$work/dhashd.sock" deploy --env demo --tag "$1" \
		--lead @demo || code=$?
	printf '(exit code %s)\n' "$code"
}

# --- the story

step '1. A sample service, v0.9.0, under a load of 100 requests a second'
port=$("$build/tests/lib/sampled" --free-port)
make_release v0.9.0
make_release v1.0.0
make_release v1.1.0 --errors 0.2 --errors-after 3s
mkdir -p "$work/hello/releases/v0.9.0"
tar -C "$work/hello/releases/v0.9.0" -xzf "$work/artifacts/hello-v0.9.0.tar.gz"
ln -s releases/v0.9.0 "$work/hello/current"
supervise >"$work/hello.log" 2>&1 &
pids+=($!)
within 5 answers version v0.9.0 || { cat "$work/hello.log" >&2; fail 'the sample service does not start'; }
"$build/tests/lib/loadgen" --url "http://127.0.0.1:$port/" --rate 100 --duration 120s >"$work/load.log" &
pids+=($!)
printf 'http://127.0.0.1:%s/version says %s\n' "$port" "$(fetch version)"

step '2. dhashd on a configuration of its own'
write_restart_hook
write_configuration
"$build/dhashd" -c "$work/etc" --state "$work/state" --socket "$work/dhashd.sock" 2>"$work/dhashd.log" &
pids+=($!)
is_up() { dhash version >/dev/null 2>&1; }
within 5 is_up || fail 'dhashd does not answer within 5 s'
show_status

step '3. v1.0.0, a good release: it is watched through three phases'
deploy v1.0.0
[ "$code" = 0 ] || fail "v1.0.0 should have succeeded, with exit code 0"
answers version v1.0.0 || fail "the service does not run v1.0.0"

step '4. v1.1.0, a bad one: every fifth request fails some seconds after its start'
deploy v1.1.0
bad_code=$code

step '5. What is left behind'
show_status
printf '\n'
bad_id=$(json_first id history)
session=$work/state/sessions/$bad_id
dhash explain "$bad_id"
printf '\n'
check 'dhash deploy ended with exit code 5: rolled back' [ "$bad_code" = 5 ]
check 'the service answers as v1.0.0 again' answers version v1.0.0
check 'its health is ok' answers health ok
check 'users saw errors before' errors_before
check 'users see no errors now' within 8 no_errors_now
check 'status: release v1.0.0 is in place' json_has '"release":"v1.0.0"' status
check 'history: the deployment of v1.1.0 was rolled back' json_has '"state":"rolled-back"' show "$bad_id"
check 'explain: the error rate decided it' json_has '"rule":"error-rate"' explain "$bad_id"
check 'explain: it was an automatic decision' json_has '"kind":"roll-back"' explain "$bad_id"
check 'journal: the decision is there' journal_says 'error.rate'
check 'journal: the rollback is there' journal_says 'rolled.back'
for file in session.log deploy.log monitor.log rollback.log incident-report.md; do
	check "session folder: $file" session_has "$file"
done
check 'session.log tells of the rollback' session_says session.log 'rolled.back'
check 'the incident report names the release' session_says incident-report.md 'v1\.1\.0'

printf '\n'
for pid in "${pids[@]}"; do stop "$pid"; done
check 'everything that was started has ended' gone "$(cat "$work/hello.pid")"
tail -n 1 "$work/load.log" | sed 's/^/load: /'
elapsed=$((SECONDS - began))
[ $failures = 0 ] || fail "$failures of the checks failed (after $elapsed s)"
printf '%sdemo: v1.0.0 was deployed; v1.1.0 was deployed, found bad and rolled back by dhashd: %s s in all%s\n' \
	"$bold" "$elapsed" "$plain"
[ $elapsed -lt 90 ] || fail 'that took longer than 90 s'
