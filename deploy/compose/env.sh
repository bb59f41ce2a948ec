#!/bin/sh
# Writes settings with new secrets for docker-compose.yml: `deploy/compose/env.sh [FILE]` [default: .env].
# An existing file stays as it is, because its passwords are those of the volumes.
set -eu
folder=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
file=${1:-"$folder/.env"}
if [ -e "$file" ]; then
  echo "$file exists: remove it together with the volumes (docker compose down --volumes) to begin again" >&2
  exit 1
fi
umask 077

# Begins with a letter: NATS reads a password of digits as a number.
secret() {
  printf 's%s' "$(head -c 24 /dev/urandom | od -A n -t x1 | tr -d ' \n')"
}

digest() {
  printf %s "$1" | sha256sum | cut -c -64
}

part="$file.part"
serving=$(secret) controller=$(secret) monitor=$(secret)
while IFS= read -r line; do
  case $line in
    SLIPWAY_TOKEN_SERVING=) line="$line$serving" ;;
    SLIPWAY_TOKEN_ROLLOUT_CONTROLLER=) line="$line$controller" ;;
    SLIPWAY_TOKEN_DRIFT_MONITOR=) line="$line$monitor" ;;
    SLIPWAY_TOKEN_DIGEST_SERVING=) line="$line$(digest "$serving")" ;;
    SLIPWAY_TOKEN_DIGEST_ROLLOUT_CONTROLLER=) line="$line$(digest "$controller")" ;;
    SLIPWAY_TOKEN_DIGEST_DRIFT_MONITOR=) line="$line$(digest "$monitor")" ;;
    '#'*) ;;
    *=) line="$line$(secret)" ;;
  esac
  printf '%s\n' "$line"
done <"$folder/.env.example" >"$part"
mv "$part" "$file"
echo "wrote $file"
