//go:build unix

package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestSDKPage_Chromium builds the page of examples/sdk as its reader does, and drives it in a browser.
func TestSDKPage_Chromium(t *testing.T) {
	node, chromium := lookNode(t), lookChromium(t)
	dist := buildPage(t)
	runScenarios(t, node, "js/sdkpage.mjs", newExample(t, "sdk", "-dist", dist).control.URL, chromium, screenshots(t))
}

// buildPage installs exactly what the lock file says, and builds, in a directory that goes with the test.
func buildPage(t *testing.T) (dist string) {
	t.Helper()
	if _, err := exec.LookPath("npm"); err != nil {
		unavailable(t, "npm")
	}
	dir := t.TempDir()
	for _, name := range []string{"package.json", "package-lock.json", ".npmrc", "index.html", "vite.config.js", "src"} {
		from, to := filepath.Join("../examples/sdk", name), filepath.Join(dir, name)
		if name == "src" {
			require.NoError(t, os.CopyFS(to, os.DirFS(from)))
			continue
		}
		b, err := os.ReadFile(from)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(to, b, 0o600))
	}
	if out, err := inDir(t, dir, "npm", "ci", "--ignore-scripts", "--prefer-offline"); err != nil {
		t.Log(out)
		unavailable(t, "what npm ci installs for examples/sdk")
	}
	out, err := inDir(t, dir, "npm", "run", "build")
	require.NoError(t, err, out)
	return filepath.Join(dir, "dist")
}

func inDir(t *testing.T, dir, name string, args ...string) (output string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.WaitDelay = dir, 10*time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestLockFiles_NameNoRegistry: what is installed comes from the registry that npm is set to.
func TestLockFiles_NameNoRegistry(t *testing.T) {
	for _, path := range []string{"package-lock.json", "../examples/sdk/package-lock.json"} {
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NotContains(t, string(b), `"resolved"`, path)
		require.Positive(t, strings.Count(string(b), `"integrity"`), path)
	}
}
