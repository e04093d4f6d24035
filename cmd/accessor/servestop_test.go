package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"accessor/trace"
)

// TestSocketsAreGone: sockets that somebody removed don't keep the service from
// stopping in order; what goes wrong with several at a time is an error like others.
func TestSocketsAreGone(t *testing.T) {
	for name, tt := range map[string]struct {
		after  func(dir string) error
		status int
	}{
		"removed":  {func(string) error { return nil }, exitOK},
		"replaced": {func(dir string) error { return os.WriteFile(dir, nil, 0o600) }, exitStopped},
	} {
		t.Run(name, func(t *testing.T) { socketsAreGone(t, tt.after, tt.status) })
	}
}

func socketsAreGone(t *testing.T, after func(dir string) error, status int) {
	chain := generated(t, trace.GenerateOptions{Seed: 3, Blocks: 2, Keys: 20, Writes: 5})
	dir, err := os.MkdirTemp("", "a")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Mkdir(dir+"/run", 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := child(t, "accessor", "serve", "--data", dir+"/store", "--anchor", chain,
		"--socket", dir+"/run/1", "--socket", dir+"/run/2", "--socket", dir+"/run/3")
	errs := started(t, cmd, dir+"/run/3")
	if err := os.RemoveAll(dir + "/run"); err != nil {
		t.Fatal(err)
	}
	if err := after(dir + "/run"); err != nil {
		t.Fatal(err)
	}
	cmd.Process.Signal(syscall.SIGTERM)
	err = cmd.Wait()
	if cmd.ProcessState.ExitCode() != status || strings.Contains(errs.String(), "panic") {
		t.Errorf("%v\n%s", err, errs.String())
	}
	if !strings.Contains(errs.String(), `"msg":"stopping"`) {
		t.Error(errs.String())
	}
}

// TestSetupStatus: what a restart doesn't mend has a status of its own, which Go's
// runtime doesn't use.
func TestSetupStatus(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "wrong.toml")
	if err := os.WriteFile(file, []byte("dta = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{}, {"what"}, {"--what"}, {"--data", dir + "/none", "--socket", dir + "/s"}, {"--data", dir, "--config", file},
		{"--data", dir, "--socket", dir + "/none/s"},
	} {
		cmd := child(t, "accessor", append([]string{"serve"}, args...)...)
		out, err := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != 78 {
			t.Errorf("serve %v: status %d, %v\n%s", args, got, err, out)
		}
	}
}

// TestNoDefaultFolder: who has no folder for the default socket is told what to set.
func TestNoDefaultFolder(t *testing.T) {
	dir := t.TempDir()
	cmd := child(t, "accessor", "serve", "--data", dir+"/store")
	cmd.Env = append(cmd.Env, "XDG_RUNTIME_DIR="+dir+"/none")
	out, _ := cmd.CombinedOutput()
	for _, want := range []string{"make the folder first", "--socket PATH", "$XDG_RUNTIME_DIR", "/run/accessor"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("doesn't say %s:\n%s", want, out)
		}
	}
}
