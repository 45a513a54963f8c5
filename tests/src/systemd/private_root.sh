# shellcheck shell=sh
# PID 1 of fresh namespaces: builds a private root, leaves the host's, makes sure that nothing of the host can be
# written, and only then becomes the command in its arguments. Whatever fails ends it before that.
#
# systemd as PID 1 removes files (tmpfiles), sets kernel parameters and takes over cgroups: it must never see the
# host's. Arguments: HOST_MNT HOST_CGROUP (the host's namespaces, as readlink shows them), QSC (the binary), DATA (a
# directory that is shown, read-only, as /qsc/models-bin), COMMAND…
set -eu
refuse() { echo "no private root: $*" >&2; exit 70; }

host_mnt=$1 host_cgroup=$2 qsc=$3 data=$4
shift 4

[ "$$" = 1 ] || refuse "this is not PID 1 of a namespace of its own"
[ "$(readlink /proc/self/ns/mnt)" != "$host_mnt" ] || refuse "this is the host's mount namespace"
[ "$(readlink /proc/self/ns/cgroup)" != "$host_cgroup" ] || refuse "this is the host's cgroup namespace"

# Of the host's root only programs and libraries are shown, read-only; everything else is a fresh tmpfs.
read_only() { mount --bind "$1" "$2"; mount -o remount,bind,ro "$2"; }
fresh() { mount -t tmpfs -o "mode=755,size=${2:-16m}" private "$1"; }
fresh /mnt 1g
cd /mnt
mkdir -p usr etc/systemd/system/basic.target.wants etc/systemd/journald.conf.d proc sys dev run root home opt \
    var/lib var/log var/cache qsc/models-bin old
mkdir -m 1777 tmp var/tmp
read_only /usr usr
for name in bin sbin lib lib32 lib64 libx32; do
    if [ -L "/$name" ]; then cp -P "/$name" .; elif [ -d "/$name" ]; then mkdir "$name"; read_only "/$name" "$name"; fi
done
for file in passwd group nsswitch.conf ld.so.cache ld.so.conf; do
    [ ! -e "/etc/$file" ] || cp "/etc/$file" etc/
done
echo 0123456789abcdef0123456789abcdef >etc/machine-id
printf '[Journal]\nStorage=volatile\nRateLimitIntervalSec=0\n' >etc/systemd/journald.conf.d/test.conf
touch qsc/qsc
read_only "$qsc" qsc/qsc
read_only "$data" qsc/models-bin
fresh usr/local
mkdir -p usr/local/bin
touch usr/local/bin/qsc
read_only "$qsc" usr/local/bin/qsc
fresh run 512m

# No generators, and no unit but these: none that cleans up, sets kernel parameters, or starts devices.
units=usr/lib/systemd/system
fresh "$units"
fresh usr/lib/systemd/system-generators
for unit in sysinit basic sockets slices paths timers local-fs swap shutdown umount final exit network network-online \
    multi-user; do
    cp "/$units/$unit.target" "$units/"
done
for unit in systemd-journald.service systemd-journald.socket systemd-journald-dev-log.socket systemd-exit.service; do
    cp "/$units/$unit" "$units/"
done
ln -s "/$units/systemd-journald.service" etc/systemd/system/basic.target.wants/

mount -t proc proc proc
for path in proc/sys proc/sysrq-trigger; do
    [ ! -e "$path" ] || read_only "$path" "$path"
done
mount -t sysfs -o ro sysfs sys
# A mount of its own: systemd would mount the host's device nodes where there is none.
fresh dev
mknod -m 666 dev/null c 1 3
mknod -m 666 dev/zero c 1 5
mknod -m 666 dev/full c 1 7
mknod -m 666 dev/random c 1 8
mknod -m 666 dev/urandom c 1 9
mknod -m 666 dev/tty c 5 0
# Nobody reads the console: it is another null.
mknod -m 600 dev/console c 1 3
ln -s pts/ptmx dev/ptmx
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    mount -t cgroup2 cgroup2 sys/fs/cgroup
    cgroup=/sys/fs/cgroup
else
    # systemd's own hierarchy alone: in a read-only directory it cannot mount the others.
    fresh sys/fs/cgroup
    mkdir sys/fs/cgroup/systemd
    mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
    mount -o remount,ro private sys/fs/cgroup
    cgroup=/sys/fs/cgroup/systemd
fi

pivot_root . old
cd /
umount -l /old
rmdir /old

# What could be written now? Only what was made above.
root=
while read -r _ _ _ _ point options rest; do
    # After optional fields: - TYPE SOURCE …
    rest=${rest#*- }
    type=${rest%% *} source=${rest#* }
    source=${source%% *}
    [ "$point" != / ] || root=$type:$source
    case $options in ro | ro,*) continue ;; esac
    case $type:$source in
        tmpfs:private | proc:proc | cgroup:cgroup | cgroup2:cgroup2) ;;
        *) refuse "$point ($type of $source) could be written" ;;
    esac
done </proc/self/mountinfo
[ "$root" = tmpfs:private ] || refuse "/ is $root"
for child in "$cgroup"/*/; do
    [ ! -d "$child" ] || refuse "the cgroup is not a fresh one: it has $child"
done

exec "$@"
