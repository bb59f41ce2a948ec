#!/bin/sh
# Usage: promote.sh MODEL VERSION ALIAS
# Prints how the version fares under the policy of the alias, and sets the alias. Deployments that watch the alias
# roll the version out; exit code 1 if the policy refuses it.
set -eu
slipway models check "$1" "$2" "$3"
slipway models set-alias "$1" "$3" "$2"
