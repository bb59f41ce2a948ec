#!/bin/sh
# node.sh FOLDER NAME: makes the machine that the cluster runs on at level `node`: namespaces for mounts,
# network, processes, host name, IPC and cgroups. No packet leaves it, no mount is visible outside, and when its
# first process ends, the kernel ends all others.
set -e
folder=$1 name=$2

# One child in each hierarchy of cgroups below the caller's; the cgroup namespace shows it as the root.
if [ "$3" != inside ]; then
    : >"$folder/cgroups.new"
    while IFS=: read -r _ controllers path; do
        [ -n "$controllers" ] || continue
        hierarchy=${controllers#name=}
        parent=/sys/fs/cgroup/$hierarchy${path%/}
        [ -d "$parent" ] || continue
        group=$parent/slipway-$name
        # On record before it exists, so that end.sh deletes it.
        echo "$group" >>"$folder/cgroups.new"
        cp "$folder/cgroups.new" "$folder/cgroups"
        mkdir "$group"
        # A process can join a group of these hierarchies only if it has CPUs and memory nodes.
        if [ -f "$group/cpuset.cpus" ]; then
            cat "$parent/cpuset.cpus" >"$group/cpuset.cpus"
            cat "$parent/cpuset.mems" >"$group/cpuset.mems"
        fi
        echo $$ >"$group/cgroup.procs"
    done </proc/self/cgroup
    exec unshare --mount --net --uts --ipc --cgroup --pid --fork --kill-child --mount-proc \
        --propagation slave sh "$0" "$folder" "$name" inside
fi

mount --make-rshared /
hostname slipway-node
mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
while IFS=: read -r _ controllers _; do
    [ -n "$controllers" ] || continue
    hierarchy=${controllers#name=}
    mkdir "/sys/fs/cgroup/$hierarchy"
    case $controllers in
    name=*) mount -t cgroup -o "none,$controllers" cgroup "/sys/fs/cgroup/$hierarchy" ;;
    *) mount -t cgroup -o "$controllers" cgroup "/sys/fs/cgroup/$hierarchy" ;;
    esac
done </proc/self/cgroup
[ ! -f /sys/fs/cgroup/cpuset/cgroup.clone_children ] || echo 1 >/sys/fs/cgroup/cpuset/cgroup.clone_children

# kubelet and containerd have paths of their own in /run, /var/lib and /var/log, which no option changes. They
# get a private version of these folders: the machine's are not touched.
own=$folder/node
mkdir -p "$own/log/pods" "$own/log/containers" "$own/var-lib" "$own/var-lib-work" "$own/kubelet" "$own/tmp"
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/netns /run/lock
mount -t overlay -o "lowerdir=/var/lib,upperdir=$own/var-lib,workdir=$own/var-lib-work" overlay /var/lib
mkdir -p /var/lib/kubelet
mount --bind "$own/kubelet" /var/lib/kubelet
mount --bind "$own/log" /var/log
for shared in /run /var/lib /var/lib/kubelet /var/log; do mount --make-rshared "$shared"; done

# kubelet sets these parameters of the kernel, which has only one set for all namespaces: it gets copies.
for parameter in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops \
    kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
    [ -f "/proc/sys/$parameter" ] || continue
    copy=$own/parameters/$parameter
    mkdir -p "${copy%/*}"
    cat "/proc/sys/$parameter" >"$copy"
    mount --bind "$copy" "/proc/sys/$parameter"
done

ip link set lo up
# The node's address is on a bridge, and there is no other link. A default route only has to exist.
ip link add node0 type bridge
ip address add 10.199.0.1/24 dev node0
ip link set node0 up
ip route add default dev node0
echo 1 >/proc/sys/net/ipv4/ip_forward
touch "$folder/node.ready"
exec sleep infinity
