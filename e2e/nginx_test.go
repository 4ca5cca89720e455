//go:build unix

package e2e

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What stands in the server block. The upstream is named app.
const (
	// nginxDefault is what somebody writes who thinks of no streams: nginx buffers responses, speaks HTTP/1.0 to the app, and
	// tells it a Host of its own.
	nginxDefault = `location / { proxy_pass http://app; }`

	// nginxRecommended lets WebSockets through, and the app see the host that browsers see, which decides about origins.
	nginxRecommended = `location / {
		proxy_pass http://app;
		proxy_http_version 1.1;
		proxy_set_header Host $http_host;
		proxy_set_header Upgrade $http_upgrade;
		proxy_set_header Connection $connection_upgrade;
	}`
)

// nginxFrame is a whole configuration: a directory for temporary files, the app's address, the address to listen at, what
// stands in the server block, and who it runs as.
const nginxFrame = `daemon off;
%[5]s
pid %[1]s/pid;
error_log stderr warn;
worker_processes 1;
events {}
http {
	access_log off;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	map $http_upgrade $connection_upgrade { default upgrade; '' close; }
	upstream app { server %[2]s; }
	server {
		listen %[3]s;
		%[4]s
	}
}
`

// startNginx runs nginx in front of a server, an "http://" URL, and returns its own. config stands in the server block. It ends
// with the test.
func startNginx(t *testing.T, backend, config string) string {
	t.Helper()
	program := lookNginx(t)
	dir := t.TempDir()
	addr := freeAddr(t)
	file := filepath.Join(dir, "nginx.conf")
	user := ""
	if os.Getuid() == 0 {
		user = "user root;" // the one it takes by itself cannot write into the test's directory
	}
	text := fmt.Sprintf(nginxFrame, dir, strings.TrimPrefix(backend, "http://"), addr, config, user)
	require.NoError(t, os.WriteFile(file, []byte(text), 0o644))

	var stderr bytes.Buffer
	cmd := exec.Command(program, "-p", dir, "-c", file, "-e", "stderr")
	cmd.Stderr = &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // its workers end with it, whatever happens to it
	require.NoError(t, cmd.Start())
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }() // the cleanup waits for it
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-exited:
		case <-time.After(10 * time.Second):
			t.Error("nginx does not end")
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			<-exited
		}
		if t.Failed() {
			t.Logf("nginx said:\n%s", tail(stderr.Bytes(), 4096))
		}
	})
	for deadline := time.Now().Add(20 * time.Second); ; {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			require.NoError(t, conn.Close())
			return "http://" + addr
		}
		select {
		case err := <-exited:
			exited <- err
			require.FailNow(t, "nginx ended", "%v\n%s", err, stderr.Bytes())
		case <-time.After(5 * time.Millisecond): // a process has no other sign of being ready
		}
		require.True(t, time.Now().Before(deadline), "nginx does not answer: %v", err)
	}
}

func lookNginx(t *testing.T) string {
	t.Helper()
	// Debian keeps it where only root's PATH leads.
	for _, name := range []string{"nginx", "/usr/sbin/nginx", "/usr/local/sbin/nginx"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	unavailable(t, "nginx")
	return ""
}
