# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the tests inside a box share; read by `source`.  Sets here, top, build; see tests/system/run.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../.." && pwd)
build=$(realpath "${DHASH_BUILD:-$top/build}")
export DHASH_BUILD=$build
patience=${DHASH_TEST_PATIENCE:-1}
site=/srv/shop
url=http://127.0.0.1:8088
passed=0 failed=0

# --- counting

pass() { passed=$((passed + 1)); printf 'ok      %s\n' "$1"; }
fail() {
	failed=$((failed + 1))
	printf 'FAILED  %s\n' "$1"
	[ -z "${2-}" ] || sed 's/^/        | /' <<<"$2"
}
# check WHAT COMMAND...: the command must succeed; what it printed is shown when it does not.
check() {
	local what=$1 output
	shift
	if output=$("$@" 2>&1); then pass "$what"; else fail "$what" "status $?: $output"; fi
}
not() { ! "$@"; }
# status_of N COMMAND...: the command must end with exactly this exit status.
status_of() {
	local wanted=$1 got=0
	shift
	"$@" || got=$?
	[ "$got" = "$wanted" ] || { printf 'exit status %s, not %s\n' "$got" "$wanted"; return 1; }
}
# within SECONDS COMMAND...: polls until the command succeeds; what it said last is shown.
within() {
	local deadline=$((SECONDS + $1 * patience)) output
	shift
	until output=$("$@" 2>&1); do
		[ $SECONDS -lt $deadline ] || { printf 'not in time: %s\n%s\n' "$*" "$output"; return 1; }
		sleep 0.05
	done
}
contains() { # TEXT COMMAND...
	local text=$1 output
	shift
	output=$("$@" 2>&1)
	[ -n "$text" ] && grep -qF -- "$text" <<<"$output" || { printf 'no "%s" in:\n%s\n' "$text" "$output"; return 1; }
}
equals() { # WANTED COMMAND...
	local wanted=$1 output
	shift
	output=$("$@" 2>&1)
	[ "$output" = "$wanted" ] || { printf '"%s", not "%s"\n' "$output" "$wanted"; return 1; }
}
summary() {
	printf '%d passed, %d failed\n' "$passed" "$failed"
	[ "$failed" = 0 ]
}

# --- asking

property() { systemctl show --property "$1" --value "${2:-dhashd.service}"; }
main_pid() { property MainPID; }
# 0 means that it does not run, and to kill(1) the whole group of the caller.
signal_main() { # SIGNAL
	local pid
	pid=$(main_pid)
	[ "${pid:-0}" -gt 1 ] && kill "-$1" "$pid"
}
alive() { [ -n "$1" ] && kill -0 "$1"; }
version() { curl -fsS --max-time 2 "$url/version"; }
# of the environment; the expression sees it as `e`, its deployment as `d`
ask() {
	dhash status --json | /usr/bin/python3 -c '
import json, sys
e = json.load(sys.stdin)["environments"][0]
d = e["deployment"] or {}
print(eval(sys.argv[1]))' "$1"
}
# In tenths, as systemd-analyze security scores the unit as it is loaded.
exposure_at_most() { # TENTHS UNIT
	local score
	score=$(systemd-analyze security --no-pager "$2" | sed -n 's/.*Overall exposure level for .*: \([0-9]*\)\.\([0-9]\) .*/\1\2/p')
	[ -n "$score" ] && [ "$((10#$score))" -le "$1" ] || { printf 'exposure of %s: %s tenths\n' "$2" "${score:-unknown}"; return 1; }
}
answers() { contains dhashd dhash version; }
calls() { grep -c -- "$1" "$site/calls"; }
# Fields of the journal's records of one kind: lines "FIELD=value".
kind_id() { sed -n "s/.*{\"$1\", *\"\([0-9a-f]\{32\}\)\"}.*/\1/p" "$top/common/log.c"; }
journal_of() { journalctl -u dhashd --no-pager -o export "MESSAGE_ID=$(kind_id "$1")"; }
in_journal() { contains "$1" journalctl -u dhashd --no-pager -o cat; }
as() { # USER COMMAND...
	local user=$1
	shift
	runuser -u "$user" -- "$@"
}

# --- install (also before a boot)

# The service: reads its release at its start, and is started anew by a path unit when that changes,
# so that a hook without any right but to write the file can deploy.
write_service() {
	mkdir -p $site/app $site/scripts $site/bin
	cp "$build"/tests/lib/{sampled,loadgen} $site/bin/ || return # the checkout may be closed to others
	echo v0 >$site/app/release
	touch $site/calls
	cat >$site/run <<RUN
#!/bin/sh
# A release of a name that begins with "bad" falls ill a moment after its start.
tag=\$(cat $site/app/release)
case \$tag in bad*) set -- --fail-health-after 300ms ;; esac
exec $site/bin/sampled --port 8088 --tag "\$tag" --control "\$@"
RUN
	cat >$site/scripts/deploy.sh <<'HOOK'
#!/bin/bash
# deploy.sh and rollback.sh are copies of one file.
step=$(basename "$0" .sh) tag='' backup=''
while [ $# -gt 0 ]; do
	case $1 in
	--tag) tag=$2; shift 2 ;;
	--backup) backup=$2; shift 2 ;;
	--env) shift 2 ;;
	--force) shift ;;
	*) echo "unknown argument $1"; exit 64 ;;
	esac
done
echo "$step begins: $DHASH_DEPLOYMENT $tag $(id -un)" >>calls
echo "<2>this is the $step hook"
[ ! -e spawn ] || { setsid sleep 1000 & echo $! >spawned; }
echo $$ >"running.$step"
while [ -e "hold.$step" ]; do sleep 0.05; done
if [ -n "$backup" ]; then
	tag=$(unzip -p "$backup" app/release) || exit 4
fi
echo "$tag" >app/release.new && mv app/release.new app/release || exit 5
for _ in {1..200}; do
	if [ "$(curl -fs --max-time 1 http://127.0.0.1:8088/version)" = "$tag" ]; then
		rm -f "running.$step"
		echo "$step ends: $DHASH_DEPLOYMENT $tag" >>calls
		exit 0
	fi
	sleep 0.05
done
echo "$tag does not come up"
exit 6
HOOK
	cp $site/scripts/deploy.sh $site/scripts/rollback.sh
	chmod 755 $site/run $site/scripts/*.sh
	chown -R dhash:dhash $site
	local units=/etc/systemd/system
	printf '[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=%s/run\nUser=nobody\n[Install]\nWantedBy=multi-user.target\n' \
		$site >$units/shop.service
	printf '[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=oneshot\nExecStart=systemctl restart shop.service\n' \
		>$units/shop-renew.service
	printf '[Path]\nPathChanged=%s/app/release\nUnit=shop-renew.service\nTriggerLimitIntervalSec=0\n[Install]\nWantedBy=multi-user.target\n' \
		$site >$units/shop-renew.path
	printf '[Unit]\nAfter=shop.service\n[Service]\nUser=nobody\nRestart=always\nRestartSec=100ms\nExecStart=%s --url %s/ --rate 50 --duration 600s\n[Install]\nWantedBy=multi-user.target\n' \
		$site/bin/loadgen $url >$units/shop-load.service
}

write_configuration() { # DESCRIPTION
	cat >/etc/dhashd/services.d/shop.conf <<CONF
[Service]
Description=$1
WorkingDirectory=$site

[Environment production]
HealthURL=$url/health
MetricsURL=$url/metrics
Deploy=scripts/deploy.sh --env %e --tag %t
Rollback=scripts/rollback.sh --backup %b --env %e --force
BackupPaths=app
Timeout=1s
Settle=200ms
Recheck=100ms
IdleInterval=500ms
VerifyInterval=100ms
VerifyTimeout=20s
PostWatch=1s
PostInterval=100ms
MinCoverage=10%

[Phase critical]
Until=${2:-2s}
Interval=100ms
[Phase stability]
Until=0
[Phase extended]
Until=0

[Metrics]
Requests=http_requests_total
Errors=http_requests_total{code=~"5.."}
Latency=http_request_duration_seconds
CONF
}

install_all() {
	make -s -C "$top" install BUILD="$build" prefix=/usr DESTDIR= || return
	systemd-sysusers || return
	systemd-tmpfiles --create || return
	id deployer >/dev/null 2>&1 || useradd --system --groups dhash,dhash-operators deployer || return
	id reader >/dev/null 2>&1 || useradd --system --groups dhash reader || return
	write_service && write_configuration 'The shop'
}

# --- in the box, and around it

inside() {
	"$1"
	if [ "$failed" != 0 ]; then
		printf -- '-- journal of dhashd:\n'
		journalctl -u dhashd --no-pager -o short-monotonic | tail -n 150
	fi >&2
	summary
}

skip() {
	printf '\n*** system tests SKIPPED: %s ***\n\n' "$1"
	exit 77
}

# in_boxes SCRIPT PART...: each part in a box of its own; the last line of each is counted.
in_boxes() {
	local script=$1 total=0 bad=0 part status p f _
	shift
	[ "$(id -u)" = 0 ] || skip 'needs root'
	for f in dhashd dhash dhash-hook tests/lib/sampled tests/lib/loadgen; do
		[ -x "$build/$f" ] || { printf '%s is not built\n' "$build/$f"; exit 1; }
	done
	out=$(mktemp) # not local: the trap needs it
	trap 'rm -f "$out"' EXIT
	for part; do
		printf -- '-- %s\n' "$part"
		status=0
		"$here/systemd-box" --cwd "$top" --before "$([ "$part" != boot ] || printf '%q before-boot' "$script")" \
			-- "$script" "$part" | tee "$out" || status=$?
		[ $status != 77 ] || skip 'this machine cannot start a systemd of its own'
		read -r p _ f _ <<<"$(tail -n 1 "$out")"
		[[ $p =~ ^[0-9]+$ && $f =~ ^[0-9]+$ ]] || { p=0 f=1; }
		total=$((total + p)) bad=$((bad + f))
	done
	passed=$total failed=$bad
	summary
}
