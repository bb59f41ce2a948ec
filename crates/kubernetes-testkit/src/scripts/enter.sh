#!/bin/sh
# enter.sh FOLDER COMMAND ARGUMENT...: runs a command on the machine that node.sh made, in its cgroups, in
# the same working directory.
folder=$1
shift
while read -r group; do
    echo $$ >"$group/cgroup.procs" || exit 1
done <"$folder/cgroups"
exec nsenter --target "$(cat "$folder/node.pid")" --mount --net --pid --uts --ipc --cgroup --wd="$PWD" -- "$@"
