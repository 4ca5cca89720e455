//go:build unix

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// tool finds a program; green must not mean "did not run" in CI.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil && os.Getenv("CI") == "true" {
		t.Fatalf("%s is not available", name)
	} else if err != nil {
		t.Skipf("%s is not available", name)
	}
	return path
}

func command(t *testing.T, environ []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), environ...)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s %s\n%s", name, strings.Join(args, " "), out)
	return string(out)
}

func TestPackages(t *testing.T) {
	tool(t, "dpkg-deb")
	tool(t, "bash")
	dir := t.TempDir()
	command(t, []string{"OUT=" + dir, "ARCHES=" + runtime.GOARCH, "VERSION=v1.2.3"}, "../../scripts/packages")
	deb := filepath.Join(dir, "fanfare_1.2.3_"+runtime.GOARCH+".deb")

	t.Run("rpm", func(t *testing.T) {
		rpms, err := filepath.Glob(filepath.Join(dir, "fanfare-1.2.3-1.*.rpm"))
		require.NoError(t, err)
		require.Len(t, rpms, 1)
		content, err := os.ReadFile(rpms[0])
		require.NoError(t, err)
		require.Equal(t, []byte{0xed, 0xab, 0xee, 0xdb, 3, 0}, content[:6], "the lead of an RPM, version 3.0")
	})
	t.Run("control", func(t *testing.T) {
		control := filepath.Join(t.TempDir(), "control")
		command(t, nil, "dpkg-deb", "-e", deb, control)
		conffiles, err := os.ReadFile(filepath.Join(control, "conffiles"))
		require.NoError(t, err)
		require.ElementsMatch(t, []string{"/etc/fanfare/fanfare.json", "/etc/fanfare/fanfare.env"}, strings.Fields(string(conffiles)))
		for _, script := range []string{"postinst", "prerm", "postrm"} {
			command(t, nil, "sh", "-n", filepath.Join(control, script))
		}
	})
	t.Run("start", func(t *testing.T) {
		root := filepath.Join(t.TempDir(), "root")
		command(t, nil, "dpkg-deb", "-x", deb, root)
		checkFiles(t, root)
		startInstalled(t, root)
	})
	t.Run("install where the group is there already", func(t *testing.T) {
		root := scratchRoot(t)
		require.NoError(t, os.WriteFile(filepath.Join(root, "etc/group"), []byte("fanfare:x:4711:\n"), 0o644))
		install(t, root, deb)
		passwd, err := os.ReadFile(filepath.Join(root, "etc/passwd"))
		require.NoError(t, err)
		require.Regexp(t, `(?m)^fanfare:[^:]*:[1-9]\d*:4711:`, string(passwd))
	})
	t.Run("install", func(t *testing.T) {
		root := scratchRoot(t)
		install(t, root, deb)
		checkFiles(t, root)
		passwd, err := os.ReadFile(filepath.Join(root, "etc/passwd"))
		require.NoError(t, err)
		require.Regexp(t, `(?m)^fanfare:[^:]*:[1-9]\d*:\d+:.*:/nonexistent:/usr/sbin/nologin$`, string(passwd))
		group, err := os.ReadFile(filepath.Join(root, "etc/group"))
		require.NoError(t, err)
		file := filepath.Join(root, "etc/fanfare/fanfare.json")
		info, err := os.Stat(file)
		require.NoError(t, err)
		require.Contains(t, string(group), fmt.Sprintf("fanfare:x:%d:", info.Sys().(*syscall.Stat_t).Gid), "its group can read the file")

		require.NoError(t, os.WriteFile(file, []byte(`{"anonymous": true}`), 0o640))
		install(t, root, deb)
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, `{"anonymous": true}`, string(content), "what the administrator wrote stays")
		startInstalled(t, root)

		command(t, nil, "dpkg", "--root="+root, "--force-script-chrootless", "--purge", "fanfare")
		require.NoFileExists(t, filepath.Join(root, "usr/bin/fanfare"))
		require.NoFileExists(t, file)
	})
}

// scratchRoot is a root directory in which dpkg has installed nothing yet.
func scratchRoot(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("installing needs root")
	}
	tool(t, "dpkg")
	tool(t, "useradd")
	root := t.TempDir()
	for _, d := range []string{"var/lib/dpkg/info", "var/lib/dpkg/updates", "etc"} {
		require.NoError(t, os.MkdirAll(filepath.Join(root, d), 0o755))
	}
	for _, f := range []string{"var/lib/dpkg/status", "var/lib/dpkg/available", "etc/passwd", "etc/group", "etc/shadow", "etc/gshadow"} {
		require.NoError(t, os.WriteFile(filepath.Join(root, f), nil, 0o644))
	}
	return root
}

// install runs the package's scripts from here, with DPKG_ROOT: the scratch root has no shell.
func install(t *testing.T, root, deb string) {
	t.Helper()
	command(t, []string{"DEBIAN_FRONTEND=noninteractive"}, "dpkg", "--root="+root, "--force-script-chrootless", "--force-depends", "--install", deb)
}

func checkFiles(t *testing.T, root string) {
	t.Helper()
	for name, mode := range map[string]os.FileMode{
		"usr/bin/fanfare": 0o755, "usr/lib/systemd/system/fanfare.service": 0o644,
		"etc/fanfare/fanfare.json": 0o640, "etc/fanfare/fanfare.env": 0o640,
		"usr/share/doc/fanfare/README.md": 0o644, "usr/share/doc/fanfare/copyright": 0o644,
	} {
		info, err := os.Stat(filepath.Join(root, name))
		require.NoError(t, err)
		require.Equal(t, mode, info.Mode(), name)
		require.Positive(t, info.Size(), name)
	}
}

// startInstalled starts the server as the unit does, only in another root.
func startInstalled(t *testing.T, root string) {
	t.Helper()
	unit := readUnit(t, filepath.Join(root, "usr/lib/systemd/system/fanfare.service"))
	command := strings.Fields(unit["ExecStart"][0])
	require.Len(t, command, 3)
	require.Equal(t, "-config", command[1])
	binary := filepath.Join(root, command[0])
	out, err := exec.Command(binary, "-version").CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Equal(t, "1.2.3\n", string(out))

	p := start(t, binary, filepath.Join(root, command[2]))
	status, body := p.get(t, "/health/ready")
	require.Equal(t, 200, status, body)
	p.signal(t, syscall.SIGTERM)
	require.NoError(t, p.wait(t))
}

// readUnit returns the values of a unit file's keys; the sections do not share any.
func readUnit(t *testing.T, path string) map[string][]string {
	t.Helper()
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	unit := make(map[string][]string)
	for line := range strings.Lines(string(content)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == '[' {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		require.True(t, ok, line)
		unit[key] = append(unit[key], value)
	}
	return unit
}

func TestUnit(t *testing.T) {
	const path = "../../packaging/fanfare.service"
	unit := readUnit(t, path)
	for key, want := range map[string]string{
		"User": "fanfare", "EnvironmentFile": "-/etc/fanfare/fanfare.env", "TimeoutStopSec": "60s", "Restart": "on-failure",
		"NoNewPrivileges": "yes", "CapabilityBoundingSet": "", "ProtectSystem": "strict", "ProtectHome": "yes", "PrivateTmp": "yes",
		"PrivateDevices": "yes", "MemoryDenyWriteExecute": "yes", "WantedBy": "multi-user.target",
	} {
		require.Equal(t, []string{want}, unit[key], key)
	}
	require.Empty(t, unit["ProcSubset"], "it would hide net.core.somaxconn")
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd-analyze is not available")
	}
	// The level is of a scale from 0 to 10, in tenths; most units of a distribution are over 9.
	command(t, nil, "systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=20", path)
}
