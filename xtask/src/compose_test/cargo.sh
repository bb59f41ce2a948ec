#!/bin/sh
# Stands for cargo, rustup, pip and python in builds of deploy/docker: "compiles" by copying what was built outside, and
# "downloads" the wheel of the toolbox.
set -eu
program=${0##*/}
case $program in
rustup) exit 0 ;;
pip)
  [ "$1" = download ] || exit 0
  while [ "$1" != --dest ]; do shift; done
  mkdir -p "$2"
  cp /built/*.whl "$2"
  ;;
python) unzip -q "$4" -d "$5" ;;
cargo)
  target=target
  while [ $# -gt 0 ]; do
    case $1 in
    --package) package=$2 && shift ;;
    --profile) profile=$2 && shift ;;
    --target) target=target/$2 && shift ;;
    esac
    shift
  done
  # A real build needs the sources.
  test -f Cargo.lock
  test -f services/registry/src/main.rs
  test ! -e .git
  mkdir -p "$target/$profile"
  cp "/built/$package" "$target/$profile/"
  ;;
esac
