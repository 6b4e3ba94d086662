# SPDX-License-Identifier: Apache-2.0
"""What runs inside a machine before its engine does: two scripts, and files that maintainer scripts would have written.

1. ``/init`` of the initramfs loads the modules that the disk needs, lays what belongs to this one machine (keys, name,
   addresses) into ``/run/machine``, and hands over.
2. ``/sbin/machine`` is the first process: it mounts, sets up the network, and keeps the ssh server and the engine
   running until it gets SIGTERM, which ends all of them and turns the machine off.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["APPLETS", "DIRECTORIES", "FILES", "LINKS", "OWN_MAC", "SOCKET", "init"]

SOCKET = "/run/docker.sock"
"""The engine's, inside."""

OWN_MAC = "52:54:00:12:34:56"
"""Of the network card that QEMU itself is behind; another one is on a bridge."""

_INIT = """#!/bin/sh
export PATH=/bin
busybox=/bin/busybox
$busybox mount -t proc proc /proc
$busybox mount -t sysfs sysfs /sys
$busybox mount -t devtmpfs devtmpfs /dev
@modules@
tries=0
while [ ! -b /dev/vda ] && [ $tries -lt 300 ]; do
    $busybox usleep 20000
    tries=$((tries + 1))
done
if ! $busybox mount -t ext4 /dev/vda /root; then
    echo 'machine: no disk'
    $busybox poweroff -f
fi
# A tree that was made by somebody who is not root belongs to that user.
if [ "$($busybox stat -c %u /root/sbin/machine)" != 0 ]; then
    $busybox chown -hR 0:0 /root
fi
$busybox mount -t tmpfs -o mode=755 tmpfs /root/run
$busybox cp -R /machine /root/run/machine
$busybox umount /proc
$busybox umount /sys
$busybox mount --move /dev /root/dev
exec $busybox switch_root /root /sbin/machine
"""

_MACHINE = """#!/bin/sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root

say() { echo "machine: $*"; }

keep() { # NAME COMMAND…: run it again when it ends
    name=$1
    shift
    while [ ! -e /run/stopping ]; do
        "$@"
        [ -e /run/stopping ] || say "$name ended, and starts again"
        busybox sleep 1
    done
}

# Cards are called eth0 and eth1 in the order in which the kernel finds them, and that is another one at some starts.
find_cards() { # own: the one behind which QEMU is; bridged: the other
    own='' bridged=''
    for card in /sys/class/net/*; do
        [ -e "$card/device" ] || continue
        if [ "$(cat "$card/address")" = @mac@ ]; then
            own=${card##*/}
        else
            bridged=${card##*/}
        fi
    done
    [ -n "$own" ] && { [ -n "$bridged" ] || [ -z "$address" ]; }
}

wait_for_cards() {
    tries=0
    until find_cards; do
        [ $tries -lt 600 ] || return 1
        busybox usleep 100000
        tries=$((tries + 1))
    done
}

stop() {
    trap '' TERM
    : >/run/stopping
    say stopping
    if [ -e /run/docker.pid ]; then
        engine=$(cat /run/docker.pid)
        kill "$engine"
        tries=0
        while [ -d "/proc/$engine" ] && [ $tries -lt 150 ]; do
            busybox usleep 100000
            tries=$((tries + 1))
        done
    fi
    kill -KILL -1
    sync
    mount -o remount,ro /
    busybox poweroff -f
}
trap stop TERM

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /tmp
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t cgroup2 cgroup2 /sys/fs/cgroup
[ -e /dev/fd ] || ln -s /proc/self/fd /dev/fd
. /run/machine/settings
busybox hostname "$name"
echo "127.0.0.1 localhost $name" >/etc/hosts
say system

ip link set lo up
if ! wait_for_cards; then
    say no network card
fi
ip link set "$own" up
ip addr add 10.0.2.15/24 dev "$own"
ip route add default via 10.0.2.2
if [ -n "$address" ]; then
    ip link set "$bridged" up
    ip addr add "$address" dev "$bridged"
fi
# QEMU forwards 10.0.2.2 to the loopback of whoever started it: nothing in here may begin to talk to that.
for chain in OUTPUT FORWARD; do
    iptables -t mangle -A $chain -d 10.0.2.2 -m conntrack --ctstate NEW -j DROP
done

mkdir -m 755 /run/sshd
keep ssh /usr/sbin/sshd -D -e -f /etc/ssh/machine &
say network
keep engine dockerd --host unix://@socket@ >/var/log/dockerd.log 2>&1 &
while :; do
    wait
    busybox sleep 1
done
"""

_SSHD = """ListenAddress 10.0.2.15
HostKey /run/machine/host_key
AuthorizedKeysFile /run/machine/authorized_keys
AuthenticationMethods publickey
PermitRootLogin prohibit-password
AllowStreamLocalForwarding yes
AllowAgentForwarding no
X11Forwarding no
UseDNS no
UsePAM no
LogLevel ERROR
"""

FILES: Mapping[str, tuple[int, str]] = {
    "etc/group": (0o644, "root:x:0:\ndaemon:x:1:\ntty:x:5:\ndocker:x:999:\nnogroup:x:65534:\n"),
    "etc/hostname": (0o644, "machine\n"),
    "etc/hosts": (0o644, "127.0.0.1 localhost\n"),
    "etc/nsswitch.conf": (0o644, "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n"),
    "etc/passwd": (
        0o644,
        "root:x:0:0:root:/root:/bin/sh\n"
        "sshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    ),
    "etc/resolv.conf": (0o644, "nameserver 10.0.2.3\n"),
    "etc/shadow": (0o600, "root:*:19000:0:99999:7:::\nsshd:!:19000::::::\nnobody:*:19000:0:99999:7:::\n"),
    "etc/ssh/machine": (0o600, _SSHD),
    "etc/shells": (0o644, "/bin/sh\n"),
    "usr/sbin/machine": (0o755, _MACHINE.replace("@socket@", SOCKET).replace("@mac@", OWN_MAC)),
}

DIRECTORIES = (
    "dev",
    "etc",
    "mnt",
    "proc",
    "root",
    "run",
    "sys",
    "tmp",
    "var/lib/docker",
    "var/log",
    "var/tmp",
)

LINKS: Mapping[str, str] = {
    "usr/bin/sh": "dash",
    "var/run": "/run",
    **{
        f"usr/sbin/{name}{part}": "xtables-nft-multi"
        for name in ("iptables", "ip6tables")
        for part in ("", "-save", "-restore")
    },
}
"""Links that ``update-alternatives`` and ``dpkg-divert`` would have made, with what they lead to."""

APPLETS = """awk clear cmp diff find free grep gunzip gzip hostname less nc netstat nslookup pgrep ping pkill ps sed
    sleep tar telnet top traceroute vi wget which xargs"""
"""Commands that people look for in a machine and no package here brings: busybox's."""


def init(modules: Sequence[str]) -> str:
    """``/init``, which loads the named files of ``/modules`` in that order."""
    lines = "\n".join(f"$busybox insmod /modules/{name}" for name in modules)
    return _INIT.replace("@modules@", lines)
