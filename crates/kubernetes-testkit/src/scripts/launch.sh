#!/bin/sh
# launch.sh FOLDER PROGRAM ARGUMENT...: runs a program of the cluster.
# The process is on record before the program starts, so that end.sh finds it also if the owner is killed in
# between.
# end.sh moves the folder `pids` away first, so that no process can start after it.
mkdir "$1/pids/$$" || exit 1
shift
exec "$@"
