#!/bin/sh
# Usage: train.sh MODEL JOB_FILE
# Submits a training job, waits for it, and prints the number of the version that it registered.
set -eu
model=$1
job=$2

newest() {
    slipway --json models versions "$model" --limit 1 2>/dev/null | jq -r '.versions[0].version // 0' || echo 0
}

before=$(newest)
slipway jobs submit --wait "$job" >&2
after=$(newest)
if [ "$after" = "$before" ]; then
    echo "the job of $job succeeded and registered no version of the model $model" >&2
    exit 1
fi
echo "$after"
