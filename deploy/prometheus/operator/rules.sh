#!/bin/sh
# Prints the rules as PrometheusRule objects: `sh rules.sh | kubectl apply --namespace slipway --filename -`.
# RUNBOOKS is where the pages of docs/runbooks are published.
set -eu
folder="$(cd "$(dirname "$0")/../rules" && pwd)"
runbooks="${RUNBOOKS:-https://slipway.example.com/docs/runbooks}"
for file in "$folder"/*.yml; do
  cat <<HEAD
---
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: slipway-$(basename "$file" .yml)
  labels:
    app.kubernetes.io/part-of: slipway
spec:
HEAD
  sed -e "s|https://slipway.example.com/docs/runbooks|$runbooks|" -e '/^#/d' -e 's/^./  &/' "$file"
done
