#!/usr/bin/env bash
# The README as a new user follows it: start the playground, take a user through a verification with grpcurl and curl,
# look at the result with cairlctl. Every step is checked; the first that is not as promised ends the run.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
log=$work/dev.log
dev=

cleanup() {
  local status=$?
  if [ -n "$dev" ] && kill -TERM "$dev" 2>/dev/null; then
    timeout 30 tail -f --pid="$dev" /dev/null || kill -KILL "$dev" || true
  fi
  if [ "$status" != 0 ]; then
    echo "smoke: FAILED; cairld dev said:" >&2
    cat "$log" >&2 || true
  fi
  rm -rf "$work"
}
trap cleanup EXIT

step() {
  printf 'smoke: %s\n' "$*"
}

fail() {
  printf 'smoke: %s\n' "$*" >&2
  exit 1
}

# get KEY...: the value at that path of the JSON on standard input; text as it is, anything else as JSON.
get() {
  python3 -c '
import json, sys
value = json.load(sys.stdin)
for key in sys.argv[1:]:
    value = value[int(key)] if isinstance(value, list) else value[key]
print(value if isinstance(value, str) else json.dumps(value))
' "$@"
}

# object KEY VALUE...: a JSON object of texts.
object() {
  python3 -c 'import json, sys; a = sys.argv[1:]; print(json.dumps(dict(zip(a[::2], a[1::2]))))' "$@"
}

# expect WHAT WANTED FOUND
expect() {
  [ "$2" = "$3" ] || fail "$1: wanted $2, found $3"
}

# expect_text WHAT TEXT FILE: the text stands in the file.
expect_text() {
  grep -qF -- "$2" "$3" || { cat "$3" >&2; fail "$1: $2 is not in the answer above"; }
}

# printed NAME: the value that cairld dev printed under that name. Waits for the line; ends early when dev ends.
printed() {
  local line
  line=$(grep -m1 -E "^  $1 +" < <(timeout 60 tail -n +1 -f --pid="$dev" "$log")) ||
    fail "cairld dev did not print its line \"$1\""
  sed -E "s/^  $1 +//" <<<"$line"
}

# call METHOD [JSON]: one call with the caller's token; the answer on standard output.
call() {
  "$grpcurl" -plaintext -connect-timeout 10 -max-time 30 -H "authorization: Bearer $token" -d "${2:-{\}}" "$grpc" "$1"
}

# refused FILE METHOD JSON [HEADER]: the same for a call that must fail; what grpcurl says goes to FILE.
refused() {
  local authorization=${4-authorization: Bearer $token}
  if "$grpcurl" -plaintext -connect-timeout 10 -max-time 30 -reflect-header "authorization: Bearer $token" \
    ${authorization:+-rpc-header "$authorization"} -d "$3" "$grpc" "$2" >"$1" 2>&1; then
    cat "$1" >&2
    fail "$2 was accepted"
  fi
}

# decide AUTHORIZATION_URL OUTCOME: plays the user at the sandbox.
decide() {
  curl -sS --fail-with-body --max-time 30 -H 'content-type: application/json' \
    -d "$(object authorization_url "$1" outcome "$2")" "$sandbox/sandbox/decide"
}

ctl() {
  cargo run --quiet --locked --bin cairlctl -- --endpoint "unix:$unix" --token-file "$data/caller.token" "$@"
}

grpcurl=$(scripts/tools.sh grpcurl)

step "building"
cargo build --quiet --locked --bins

step "starting cairld dev"
# The log must be there before anybody waits for a line of it.
: >"$log"
cargo run --quiet --locked -- dev >"$log" 2>&1 &
dev=$!
grpc=$(printed grpc)
unix=$(printed unix)
sandbox=$(printed sandbox)
webhooks=$(printed webhooks)
data=$(printed data)
token=$(cat "$data/caller.token")
step "it listens on $grpc and $unix; the sandbox is at $sandbox"

step "reflection lists the services"
"$grpcurl" -plaintext -connect-timeout 10 -max-time 30 -H "authorization: Bearer $token" "$grpc" list >"$work/services"
expect_text "services" cairld.v1.IntegrationService "$work/services"
expect_text "services" grpc.health.v1.Health "$work/services"

step "health is SERVING"
expect "health" SERVING "$(call grpc.health.v1.Health/Check | get status)"

service=cairld.v1.IntegrationService
start='{"client": "demo", "scopes": ["age_18_plus"]}'

step "StartAuthorization gives a URL"
started=$(call "$service/StartAuthorization" "$start")
session=$(get session id <<<"$started")
authorization_url=$(get authorizationUrl <<<"$started")
expect "status" SESSION_STATUS_PENDING "$(get session status <<<"$started")"

step "the user approves at the sandbox"
callback_url=$(decide "$authorization_url" approve | get callback_url)

step "CompleteAuthorization brings the claims"
completed=$(call "$service/CompleteAuthorization" "$(object callback_url "$callback_url")")
expect "status" SESSION_STATUS_COMPLETE "$(get session status <<<"$completed")"
expect "claim age_18_plus" true "$(get session claims age_18_plus boolValue <<<"$completed")"

step "GetSession shows it COMPLETE"
shown=$(call "$service/GetSession" "$(object session_id "$session")")
expect "status" SESSION_STATUS_COMPLETE "$(get session status <<<"$shown")"

step "RevokeToken takes the token back"
for try in first second; do
  revoked=$(call "$service/RevokeToken" "$(object session_id "$session")")
  expect "token, the $try time" TOKEN_STATUS_REVOKED "$(get session token status <<<"$revoked")"
done

step "the same state with another code is refused"
replayed=$(python3 -c '
import sys
from urllib.parse import parse_qsl, urlencode, urlsplit
url = urlsplit(sys.argv[1])
pairs = [(key, value + "x" if key == "code" else value) for key, value in parse_qsl(url.query)]
print(url._replace(query=urlencode(pairs)).geturl())
' "$callback_url")
refused "$work/replayed" "$service/CompleteAuthorization" "$(object callback_url "$replayed")"
expect_text "replay" AlreadyExists "$work/replayed"
expect_text "replay" '"reason": "STATE_ALREADY_USED"' "$work/replayed"

step "a signed webhook is kept"
printf '{"event":"vae.resolved","id":"smoke-1"}' >"$work/body"
signature=sha256=$(openssl dgst -sha256 -hmac "$(cat "$data/webhook.secret")" "$work/body" | awk '{ print $NF }')
webhook=$(object client demo body "$(base64 -w0 "$work/body")" signature "$signature")
ingested=$(call "$service/IngestWebhook" "$webhook")
event=$(get event id <<<"$ingested")
[ -n "$event" ] || fail "the webhook has no event id"

step "the same webhook again is a duplicate"
again=$(call "$service/IngestWebhook" "$webhook")
expect "duplicate" true "$(get duplicate <<<"$again")"
expect "event" "$event" "$(get event id <<<"$again")"

step "a webhook over HTTP, signed by another's HMAC, is kept once"
# deliver SECRET: signs the body with Python's hmac and posts it as the provider does; prints status and answer.
deliver() {
  python3 - "$webhooks" "$work/delivered" "$1" <<'PYTHON'
import hashlib, hmac, sys, urllib.error, urllib.request
url, path, secret = sys.argv[1:]
body = open(path, "rb").read()
signature = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
request = urllib.request.Request(url, data=body, headers={"X-CAIRL-Signature": signature})
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
try:
    answer = opener.open(request, timeout=30)
except urllib.error.HTTPError as error:
    answer = error
print(answer.status, answer.read().decode())
PYTHON
}
printf '{"event":"vae.resolved","id":"smoke-2","name":"Zo\303\253"}' >"$work/delivered"
delivered=$(deliver "$(cat "$data/webhook.secret")")
expect "status" 200 "${delivered%% *}"
expect "duplicate" false "$(get duplicate <<<"${delivered#* }")"
again=$(deliver "$(cat "$data/webhook.secret")")
expect "duplicate" true "$(get duplicate <<<"${again#* }")"
expect "event" "$(get event <<<"${delivered#* }")" "$(get event <<<"${again#* }")"
forged=$(deliver "another secret")
expect "status of a forgery" 400 "${forged%% *}"

step "a webhook with a wrong signature is refused"
forged=$(object client demo body "$(base64 -w0 "$work/body")" signature "sha256=$(printf '0%.0s' {1..64})")
refused "$work/forged" "$service/IngestWebhook" "$forged"
expect_text "forgery" '"reason": "WEBHOOK_SIGNATURE_INVALID"' "$work/forged"

step "a caller without a token is refused"
refused "$work/unknown" "$service/StartAuthorization" "$start" ""
expect_text "unknown caller" Unauthenticated "$work/unknown"
expect_text "unknown caller" '"reason": "CALLER_UNKNOWN"' "$work/unknown"

step "cairlctl speaks over the Unix socket"
ctl status
ctl session get "$session"
expect "cairlctl's JSON" SESSION_STATUS_COMPLETE "$(ctl --json session get "$session" | get session status)"

step "cairlctl takes a flow from start to end"
started=$(ctl --json start --client demo --scope age_18_plus)
decide "$(get authorizationUrl <<<"$started")" approve | get callback_url >"$work/callback"
completed=$(ctl --json complete - <"$work/callback")
expect "status" SESSION_STATUS_COMPLETE "$(get session status <<<"$completed")"
revoked=$(ctl --json session revoke "$(get session id <<<"$completed")")
expect "token" TOKEN_STATUS_REVOKED "$(get session token status <<<"$revoked")"
status=0
ctl session get ses_00000000000000000000000000 >/dev/null 2>"$work/missing" || status=$?
expect_text "unknown session" SESSION_NOT_FOUND "$work/missing"
expect "exit code" 1 "$status"

step "cairlctl takes care of the store"
ctl backup "$work/backup"
ctl store verify
ctl store compact
ctl restore "$work/backup" --to "$work/restored.redb"
cmp "$work/backup" "$work/restored.redb"
status=0
ctl backup "$work/backup" 2>"$work/again" || status=$?
expect "exit code" 74 "$status"

step "cairld dev stops when told to"
kill -TERM "$dev"
timeout 30 tail -f --pid="$dev" /dev/null || fail "cairld dev goes on"
stopped=0
wait "$dev" || stopped=$?
expect "exit code of cairld dev" 0 "$stopped"
dev=

step "all as promised"
