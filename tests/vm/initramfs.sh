#!/bin/sh
# PID 1 in the initramfs: the machine's own root, read-only, under a layer in memory; then init.sh in it.
# Not to be run anywhere else.
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
exec >/dev/ttyS0 2>&1

fail() {
	echo "initramfs: $*"
	poweroff -f
}

for module in virtio_pci 9pnet_virtio 9p overlay; do
	modprobe $module 2>/dev/null # may be built in
done
options=trans=virtio,version=9p2000.L,msize=512000
mount -t 9p -o ro,cache=loose,$options root /lower || fail "the machine's root cannot be mounted"
mount -t tmpfs -o size=75% tmpfs /layer
mkdir /layer/upper /layer/work
mount -t overlay -o lowerdir=/lower,upperdir=/layer/upper,workdir=/layer/work overlay /root || fail "no overlay"

mkdir -p /root/proc /root/sys /root/dev /root/run
for kind in proc:proc sysfs:sys devtmpfs:dev tmpfs:run; do
	mount -t ${kind%:*} ${kind%:*} /root/${kind#*:}
done
mkdir -p /root/run/vm/share
# Written through at once, so that a guest which hangs leaves what it had.
mount -t 9p -o rw,cache=none,$options share /root/run/vm/share || fail "the shared directory cannot be mounted"
cp /bin/busybox /root/run/vm/modprobe
umount /proc /sys
exec switch_root /root /bin/sh /run/vm/share/init.sh
