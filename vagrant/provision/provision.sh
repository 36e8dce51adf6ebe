#!/bin/sh
# Makes a Debian 12 machine (cloud image, Vagrant box, container) one that can become a node of a
# lab: packages, the users `labctl` and `lab`, labctl-seed. Run as root, in the folder it came in.
# Run twice it changes nothing; packages that are there cost no network.
#
#   LABCTL_WITH_PODMAN=1       the app may be a container image
#   LABCTL_PROGRAM=FILE        the node program (a .tar.gz), compiled here once; default: beside us
#   LABCTL_APP_IMAGE=FILE      an image archive for podman; default: app-image.tar beside us
set -eu
umask 022
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
here=$(cd "$(dirname "$0")" && pwd)
program=${LABCTL_PROGRAM:-$here/program.tar.gz}
app_image=${LABCTL_APP_IMAGE:-$here/app-image.tar}
with_podman=${LABCTL_WITH_PODMAN:-}
[ ! -f "$app_image" ] || with_podman=1

say() {
    echo "provision: $*"
}

[ "$(id -u)" = 0 ] || { say "run me as root" >&2; exit 1; }

# put SOURCE TARGET MODE: make TARGET the same as SOURCE, if it is not
put() {
    cmp -s "$1" "$2" || { install -m "$3" "$1" "$2.labctl-new" && mv -f "$2.labctl-new" "$2" && say "wrote $2"; }
}

packages() {
    wanted="python3 python3-flask python3-psutil python3-jinja2 python3-aiohttp python3-waitress
        python3-tenacity nginx-light nftables openssh-server sudo iproute2"
    [ -z "$with_podman" ] || wanted="$wanted podman uidmap"
    missing=
    # shellcheck disable=SC2086 # a list of words
    known=$(dpkg-query -W -f '/${Package}:${db:Status-Status}/' $wanted 2>/dev/null || :)
    for package in $wanted; do
        case $known in
            *"/$package:installed/"*) ;;
            # Any nginx is as good as the light one.
            *) [ "$package" = nginx-light ] && [ -x /usr/sbin/nginx ] || missing="$missing $package" ;;
        esac
    done
    [ -n "$missing" ] || return 0
    say "installing$missing"
    apt-get -q -o DPkg::Lock::Timeout=300 update
    # shellcheck disable=SC2086 # a list of words
    apt-get -q -y -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confold install \
        --no-install-recommends $missing
}

# is_enabled UNIT: whether something wants it. Its links are looked at, as systemctl takes seconds
# in an interpreted guest.
is_enabled() {
    for link in /etc/systemd/system/*.wants/"$1"; do
        [ ! -L "$link" ] || return 0
    done
    return 1
}

# What Debian starts by itself and no lab wants.
quiet() {
    for unit in nginx.service podman.socket podman.service podman-auto-update.timer \
        podman-restart.service apt-daily.timer apt-daily-upgrade.timer unattended-upgrades.service \
        man-db.timer e2scrub_all.timer fstrim.timer; do
        # A masked one is off already, whatever wants it.
        if [ -L "/etc/systemd/system/$unit" ] || ! is_enabled "$unit"; then continue; fi
        systemctl disable -q --no-reload "$unit"
        [ ! -d /run/systemd/system ] || systemctl stop "$unit"
        say "disabled $unit"
    done
}

users() {
    getent passwd labctl >/dev/null ||
        useradd --system --user-group --home-dir /var/lib/labctl/home --shell /usr/sbin/nologin labctl
    getent passwd lab >/dev/null || useradd --create-home --user-group --shell /bin/bash lab
    # No password, but not locked either: without PAM sshd lets no locked account in.
    case $(getent shadow lab | cut -d : -f 2) in
        '*') ;;
        *) usermod -p '*' lab ;;
    esac
    for group in systemd-journal adm; do
        getent group $group | grep -q '[:,]lab\(,\|$\)' || usermod -a -G $group lab
    done
    echo 'lab ALL=(ALL) NOPASSWD: ALL' >"$work/sudoers"
    mkdir -p /etc/sudoers.d
    put "$work/sudoers" /etc/sudoers.d/labctl 440
    mkdir -p /var/lib/labctl
}

sshd() {
    mkdir -p /etc/ssh/sshd_config.d
    # The first value counts, so what the seed brings must be read first.
    if ! grep -qi '^[[:space:]]*include[[:space:]]\+/etc/ssh/sshd_config\.d/' /etc/ssh/sshd_config; then
        { echo 'Include /etc/ssh/sshd_config.d/*.conf'; cat /etc/ssh/sshd_config; } >"$work/sshd_config"
        put "$work/sshd_config" /etc/ssh/sshd_config 644
    fi
}

seed_reader() {
    mkdir -p /usr/local/sbin
    put "$here/labctl-seed" /usr/local/sbin/labctl-seed 755
    known=
    for unit in labctl-seed.service labctl-seed-watch.service; do
        cmp -s "$here/$unit" /etc/systemd/system/$unit || known="$known$(ls /etc/systemd/system/$unit 2>/dev/null || :)"
        put "$here/$unit" /etc/systemd/system/$unit 644
    done
    # A reload takes half a minute in an interpreted guest; units that systemd never saw need none.
    for unit in labctl-seed.service nftables.service; do
        is_enabled $unit || systemctl enable -q --no-reload $unit
    done
    if [ -n "$known" ] && [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
}

# Compiled here, once: the services may write nothing there, and their Python would compile it at
# every start.
node_program() {
    [ -f "$program" ] || return 0
    tar -xzf "$program" -C "$work" --no-same-owner --one-top-level=program
    [ "$(cat /opt/labctl/DIGEST 2>/dev/null || :)" != "$(cat "$work/program/DIGEST")" ] || return 0
    chmod -R u=rwX,go=rX "$work/program"
    chown -R root:root "$work/program"
    rm -rf /opt/labctl /opt/labctl.new
    mv "$work/program" /opt/labctl.new
    mv /opt/labctl.new /opt/labctl
    python3 -m compileall -q /opt/labctl
    say "installed the node program"
}

# Where the unit of a container app looks for its image, as the user that runs it.
containers() {
    [ -n "$with_podman" ] || return 0
    # Ids for the users inside; few enough for a container in a container.
    grep -q '^labctl:' /etc/subuid || usermod --add-subuids 524288-589823 labctl
    grep -q '^labctl:' /etc/subgid || usermod --add-subgids 524288-589823 labctl
    store=/var/lib/labctl/containers
    [ -d $store ] || install -d -m 700 -o labctl -g labctl $store
    [ -f "$app_image" ] || return 0
    sum=$(sha256sum <"$app_image" | cut -c 1-64)
    [ "$(cat $store/loaded 2>/dev/null || :)" != "$sum" ] || return 0
    # podman remembers where these are: they are those of the unit.
    run=/run/labctl-containers
    [ -d $run ] || install -d -m 700 -o labctl -g labctl $run
    podman="podman --root=$store/storage --runroot=$run/storage --storage-driver=overlay --cgroup-manager=cgroupfs"
    (
        cd $store
        # shellcheck disable=SC2086 # a list of words
        runuser -u labctl -- env HOME=$store XDG_RUNTIME_DIR=$run $podman load
    ) <"$app_image"
    echo "$sum" >$store/loaded
    say "loaded the app's image"
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
packages
quiet
users
sshd
seed_reader
node_program
containers
say "done"
