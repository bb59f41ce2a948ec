#!/bin/sh
# end.sh FOLDER: ends the cluster when its owner ends, and deletes everything that it left.
# Standard input is a pipe whose other end only the owner has: the kernel closes it also if the owner is
# killed.
# Standard output is the locked lock file: the folder is in use until this script ends.
folder=$1
trap '' HUP INT QUIT TERM
cd / || exit 1
cat >/dev/null

ours() {
    tr '\0' ' ' <"/proc/$1/cmdline" 2>/dev/null | grep -qF "$folder/"
}

[ -d "$folder/ending" ] || mv "$folder/pids" "$folder/ending" 2>/dev/null
for record in "$folder"/ending/*; do
    pid=${record##*/}
    ours "$pid" && kill -KILL "$pid"
done

# Containers, shims and everything else in the node's PID namespace die with its first process. A cgroup can
# be deleted once its last process is gone.
remaining() {
    for record in "$folder"/ending/*; do
        ours "${record##*/}" && return 0
    done
    [ -f "$folder/cgroups" ] || return 1
    while read -r group; do
        [ -d "$group" ] && find "$group" -depth -type d -exec rmdir {} \; 2>/dev/null
        [ -d "$group" ] && return 0
    done <"$folder/cgroups"
    return 1
}
tries=0
while remaining; do
    tries=$((tries + 1))
    # The next cluster that starts tries again.
    [ "$tries" -lt 1200 ] || exit 1
    sleep 0.1
done
# The lock last: a folder without one is not a cluster's.
find "$folder" -mindepth 1 -maxdepth 1 ! -name lock -exec rm -rf {} +
rm -rf "$folder"
