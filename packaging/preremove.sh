#!/bin/sh
# dpkg calls it with "remove", rpm with 0 when the last version goes; both call it for upgrades, too.
set -e

case "$1" in
remove | 0) ;;
*) exit 0 ;;
esac
if [ -z "${DPKG_ROOT:-}" ] && [ -d /run/systemd/system ]; then
	systemctl disable --now fanfare.service
fi
