#!/bin/sh
# Usage: notify.sh TEXT [URL]
# Sends a message to Slack, by the incoming webhook in SLACK_WEBHOOK_URL. Nothing is sent if that is not set.
set -eu
if [ -z "${SLACK_WEBHOOK_URL:-}" ]; then
    echo "SLACK_WEBHOOK_URL is not set: no message is sent" >&2
    exit 0
fi
# The address is a secret: it is read from standard input, not from the arguments.
jq --null-input --arg text "$1${2:+ ($2)}" '{text: $text}' > "${TMPDIR:-/tmp}/message.$$"
printf 'url = "%s"\n' "$SLACK_WEBHOOK_URL" | curl --silent --show-error --fail --max-time 30 --config - \
    --header 'content-type: application/json' --data "@${TMPDIR:-/tmp}/message.$$" --output /dev/null
rm -f "${TMPDIR:-/tmp}/message.$$"
