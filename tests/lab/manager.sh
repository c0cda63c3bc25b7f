#!/bin/sh
# The first process in namespaces of its own (mount, PID, UTS, IPC, cgroup, network): makes of them what systemd takes
# for a machine, and becomes systemd. tests/lab/manager.py runs it; nothing of it is seen outside, or stays.
#     manager.sh WORK CONSOLE [NETNS]...
# WORK/etc and WORK/bin are laid over /etc and /usr/bin, WORK/run is /run; CONSOLE is a terminal; each NETNS is a file.
set -e
work=$1 console=$2
shift 2
hostname xdprouter-manager
mount -t sysfs sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount --bind "$console" /dev/console
# The kernel's settings are the whole machine's.
for settings in /proc/sys /proc/sysrq-trigger; do
	[ ! -e $settings ] || mount --bind -o ro $settings $settings
done

mount -t tmpfs -o mode=755 tmpfs /mnt
cp -r "$work/run/." /mnt
mkdir /mnt/netns /mnt/layers
cp -r "$work/etc" "$work/bin" /mnt/layers
for netns in "$@"; do
	: >"/mnt/netns/${netns##*/}"
	mount --bind "$netns" "/mnt/netns/${netns##*/}"
done
overlay() { # DIRECTORY NAME [LOWER]: what is written to DIRECTORY stays in this namespace
	mkdir "/mnt/layers/$2.upper" "/mnt/layers/$2.work"
	mount -t overlay -o "lowerdir=${3:+$3:}$1,upperdir=/mnt/layers/$2.upper,workdir=/mnt/layers/$2.work" overlay "$1"
}
overlay /etc etc /mnt/layers/etc
overlay /usr/bin bin /mnt/layers/bin
overlay /var var
overlay /tmp tmp
chmod 1777 /tmp
# Not over what is there, which systemd would find below.
cut -d ' ' -f 5 /proc/self/mountinfo | grep -Ex '/run(/.*)?' | tac | while read -r old; do
	umount -n --lazy "$old"
done
mount -n --move /mnt /run
# As on a machine that has booted it.
mount --make-rshared /
exec env -i container=xdprouter-test LANG=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin \
	SYSTEMD_UNIT_PATH=/run/units SYSTEMD_GENERATOR_PATH=/run/units/none SYSTEMD_ENVIRONMENT_GENERATOR_PATH=/run/units/none \
	/lib/systemd/systemd --system --unit=basic.target --log-target=console --show-status=no --crash-shell=no
