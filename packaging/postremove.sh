#!/bin/sh
# The user stays: files may be left that belong to it, and another must not get its number.
set -e

if [ -z "${DPKG_ROOT:-}" ] && [ -d /run/systemd/system ]; then
	systemctl daemon-reload
fi
