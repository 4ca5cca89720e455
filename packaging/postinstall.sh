#!/bin/sh
# dpkg calls it with "configure", rpm with the number of versions that there are: 2 is an upgrade.
set -e

case "$1" in
configure | [0-9]*) ;;
*) exit 0 ;;
esac

root="${DPKG_ROOT:-}"
if ! grep -q '^fanfare:' "$root/etc/passwd"; then
	group=--user-group
	! grep -q '^fanfare:' "$root/etc/group" || group="--gid fanfare" # useradd refuses to make one that is there
	# shellcheck disable=SC2086
	useradd ${root:+--prefix "$root"} --system $group --no-create-home --home-dir /nonexistent \
		--shell /usr/sbin/nologin --comment "fanfare real-time server" fanfare
fi
# They may hold secrets. By number, since the group may be known in $root only.
gid=$(grep '^fanfare:' "$root/etc/group" | cut -d: -f3)
for file in fanfare.json fanfare.env; do
	[ -e "$root/etc/fanfare/$file" ] || continue
	chown "0:$gid" "$root/etc/fanfare/$file"
	chmod 0640 "$root/etc/fanfare/$file"
done

if [ -z "$root" ] && [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	if [ "$1" = 2 ] || [ -n "$2" ]; then
		systemctl try-restart fanfare.service
	else
		echo "fanfare is installed: edit /etc/fanfare/fanfare.json, then: systemctl enable --now fanfare"
	fi
fi
