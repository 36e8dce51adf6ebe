#!/bin/sh
# The last step before a provisioned machine becomes an image: afterwards it has no identity, and
# nobody but a seed gives it one. It has no keys to log in with either, so run it in the session
# that powers it off. Run twice it changes nothing.
set -eu
umask 022
export LC_ALL=C
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

[ "$(id -u)" = 0 ] || { echo "seal: run me as root" >&2; exit 1; }
[ -x /usr/local/sbin/labctl-seed ] || { echo "seal: run provision.sh first" >&2; exit 1; }

# put TARGET MODE: make TARGET what stands on stdin
put() {
    cat >"$1.labctl-new"
    chmod "$2" "$1.labctl-new"
    if cmp -s "$1.labctl-new" "$1"; then rm "$1.labctl-new"; else mv -f "$1.labctl-new" "$1"; fi
}

# Without a seed there is no sshd: where it answers, it has the key that was made for it.
mkdir -p /etc/systemd/system/ssh.service.d
put /etc/systemd/system/ssh.service.d/labctl.conf 644 <<'X'
[Unit]
After=labctl-seed.service
ConditionPathExists=/etc/ssh/ssh_host_ed25519_key
X

# cloud-init would give names, keys and addresses of its own, and wait for a cloud.
if [ -d /etc/cloud ]; then
    : >/etc/cloud/cloud-init.disabled
    rm -f /etc/netplan/50-cloud-init.yaml /etc/network/interfaces.d/50-cloud-init /etc/ssh/sshd_config.d/50-cloud-init.conf
    if [ "$(systemctl is-enabled systemd-networkd.service 2>/dev/null || :)" = enabled ]; then
        put /etc/systemd/network/80-labctl-dhcp.network 644 <<'X'
[Match]
Name=en* eth*

[Link]
RequiredForOnline=no

[Network]
DHCP=ipv4

[DHCPv4]
ClientIdentifier=mac
X
    fi
fi

# Passwords and keys of whoever built this. The login user has none yet.
getent passwd | while IFS=: read -r user _ uid _ _ home shell; do
    [ "$uid" = 0 ] || [ "$uid" -ge 1000 ] || continue
    case $shell in */nologin | */false) continue ;; esac
    rm -f "$home/.ssh/authorized_keys" "$home/.ssh/authorized_keys2" "$home/.bash_history"
    [ "$user" = lab ] || usermod -p '*' "$user"
done

rm -rf /var/lib/labctl/applied /var/lib/labctl/seed /var/lib/labctl/seed.tar /var/lib/labctl/units \
    /var/lib/labctl/node /var/lib/labctl/network
rm -f /etc/ssh/ssh_host_* /var/lib/systemd/random-seed /var/lib/dbus/machine-id
# Written in place, for systemd may have it as a mount. Empty: the next boot makes another.
: >/etc/machine-id
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/apt/archives/*.deb /var/lib/dhcp/*.leases \
    /var/lib/systemd/network/* /var/log/journal/*
find /var/log -type f -exec truncate -s 0 {} +
sync
echo "seal: done"
