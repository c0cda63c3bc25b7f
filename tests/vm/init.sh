#!/bin/sh
# PID 1 in the guest, on the machine's root under a layer in memory: what a booted machine has and a test asks for, then
# the command. PID 1 must never exit, so the machine is switched off at the end.
# Not to be run anywhere else.
share=/run/vm/share
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM=dumb TMPDIR=/run/tmp
exec </dev/null >/dev/ttyS0 2>&1

mkdir -p /dev/pts /dev/shm /run/tmp /run/lock /run/netns
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mount -t tracefs tracefs /sys/kernel/tracing
for number in 0 1 2; do
	ln -sfn /proc/self/fd/$number /dev/$(echo stdin stdout stderr | cut -d ' ' -f $((number + 1)))
done
ln -sfn /proc/self/fd /dev/fd
if id frr >/dev/null 2>&1; then
	mkdir /run/frr && chown frr:frr /run/frr
fi
ip link set lo up

# The kernel calls modprobe by itself for whatever device, qdisc or table is asked for.
. $share/settings.sh
mkdir -p /lib/modules
ln -sfn "$GUEST_MODULES" "/lib/modules/$(uname -r)"
echo /run/vm/modprobe >/proc/sys/kernel/modprobe

echo "init: $(cut -d ' ' -f 1 /proc/uptime) s after boot: the command"
timeout --kill-after=5 "$GUEST_TIMEOUT_S" /bin/sh $share/command.sh >$share/output 2>&1
code=$?
dmesg >$share/dmesg
echo $code >$share/exit.new
mv $share/exit.new $share/exit # last, and whole: who reads it may believe it
sync
echo o >/proc/sysrq-trigger
sleep 60
