package client_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"accessor/api/client"
	"accessor/internal/programtest"
)

func TestMain(m *testing.M) { programtest.Main(m) }

// TestConformance runs the scenarios that every client runs, against the program
// itself: clients/conformance/README.md says what they are made of. $ACCESSOR_SCENARIOS
// is another folder of them.
func TestConformance(t *testing.T) {
	folder := cmp.Or(os.Getenv("ACCESSOR_SCENARIOS"), "../../clients/conformance/scenarios")
	files, err := filepath.Glob(filepath.Join(folder, "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios in %s: %v", folder, err)
	}
	recorded := readRecording(t, filepath.Join(folder, "../chain.jsonl"))
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var sc scenario
			d := json.NewDecoder(bytes.NewReader(text))
			d.DisallowUnknownFields()
			if err := d.Decode(&sc); err != nil {
				t.Fatal(err)
			}
			newRunner(t, &sc, recorded).run()
		})
	}
}

type scenario struct {
	Name, About string
	Server      struct {
		Sockets  sockets
		Settings string
	}
	Steps []step
}

// sockets are the server's, in the order of the file.
type sockets []socket

type socket struct {
	name  string
	roles []string
}

func (s *sockets) UnmarshalJSON(text []byte) error {
	d := json.NewDecoder(bytes.NewReader(text))
	if _, err := d.Token(); err != nil {
		return err
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		one := socket{name: name.(string)}
		if err := d.Decode(&one.roles); err != nil {
			return err
		}
		*s = append(*s, one)
	}
	return nil
}

type step struct {
	Do     string
	With   map[string]any
	Client string
	OK     any
	Error  any
	Save   map[string]string
	Until  float64
	Start  string
	Join   string
	Each   any
}

// runner runs one scenario.
type runner struct {
	t        *testing.T
	sc       *scenario
	dir      string
	chain    string
	recorded *recording
	vars     map[string]any
	clients  map[string]*client.Client
	server   *exec.Cmd
	said     *bytes.Buffer
	started  map[string]chan error
	events   map[string]*follower
	scans    map[string]*walker
}

func newRunner(t *testing.T, sc *scenario, rec *recording) *runner {
	t.Helper()
	if len(sc.Server.Sockets) == 0 {
		sc.Server.Sockets = sockets{{"main", []string{"importing", "operator"}}}
	}
	dir, err := os.MkdirTemp("", "acc") // sockets' paths are short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := &runner{
		t: t, sc: sc, dir: dir, chain: rec.path, recorded: rec, vars: map[string]any{}, clients: map[string]*client.Client{},
		started: map[string]chan error{}, events: map[string]*follower{}, scans: map[string]*walker{},
	}
	config := "data = \"store\"\n" + sc.Server.Settings
	for _, s := range sc.Server.Sockets {
		roles, err := json.Marshal(s.roles)
		if err != nil {
			t.Fatal(err)
		}
		config += fmt.Sprintf("\n[[sockets]]\nname = %q\npath = \"%s.sock\"\nroles = %s\n", s.name, s.name, roles)
		r.connect(s.name)
	}
	if err := os.WriteFile(filepath.Join(dir, "accessor.toml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return r
}

// connect makes the client of a socket.
func (r *runner) connect(name string) {
	r.t.Helper()
	c, err := client.New(filepath.Join(r.dir, name+".sock"))
	if err != nil {
		r.t.Fatal(err)
	}
	r.clients[name] = c
	r.t.Cleanup(func() { c.Close() })
}

// startServer starts the program and waits until it is ready.
func (r *runner) startServer() error {
	r.said = &bytes.Buffer{}
	r.server = exec.Command(programtest.Path(r.t), "serve", "--config", "accessor.toml", "--anchor", r.chain)
	r.server.Dir, r.server.Stderr = r.dir, r.said
	if err := r.server.Start(); err != nil {
		return err
	}
	first := r.clients[r.sc.Server.Sockets[0].name]
	var err error
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if err = first.Ready(context.Background()); err == nil {
			return nil
		}
	}
	return err
}

// endServer ends the program by a signal, and waits for its end.
func (r *runner) endServer(signal os.Signal) error {
	if r.server == nil {
		return errors.New("the server doesn't run")
	}
	if err := r.server.Process.Signal(signal); err != nil {
		return err
	}
	err := r.server.Wait()
	r.server = nil
	if signal == syscall.SIGKILL {
		return nil
	}
	return err
}

func (r *runner) run() {
	t := r.t
	defer func() {
		for _, f := range r.events {
			f.close()
		}
		if r.server != nil {
			_ = r.server.Process.Kill()
			_ = r.server.Wait()
		}
		if t.Failed() {
			t.Logf("the server says:\n%s", r.said)
		}
	}()
	if err := r.startServer(); err != nil {
		t.Fatalf("never ready: %v", err)
	}
	for i, s := range r.sc.Steps {
		if err := r.step(s); err != nil {
			t.Fatalf("step %d, %s: %v", i+1, cmp.Or(s.Do, "join "+s.Join), err)
		}
	}
	for name, done := range r.started {
		if err := <-done; err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// step does a step, for each member of its list if it has one.
func (r *runner) step(s step) error {
	if s.Join != "" {
		done := r.started[s.Join]
		if done == nil {
			return errors.New("nothing of that name runs")
		}
		delete(r.started, s.Join)
		return <-done
	}
	if s.Each == nil {
		return r.one(s, r.vars)
	}
	list, err := r.expand(s.Each, r.vars)
	if err != nil {
		return err
	}
	for _, each := range list.([]any) {
		vars := maps.Clone(r.vars)
		vars["each"] = each
		if err := r.one(s, vars); err != nil {
			return fmt.Errorf("each %v: %w", each, err)
		}
		delete(vars, "each")
		r.vars = vars
	}
	return nil
}

func (r *runner) one(s step, vars map[string]any) error {
	with, err := r.expand(s.With, vars)
	if err != nil {
		return err
	}
	if s.Start != "" {
		done := make(chan error, 1)
		r.started[s.Start] = done
		go func() { done <- r.until(s, with.(map[string]any), maps.Clone(vars)) }()
		return nil
	}
	return r.until(s, with.(map[string]any), vars)
}

// until does a step once, or until it is as expected.
func (r *runner) until(s step, with map[string]any, vars map[string]any) error {
	end := time.Now().Add(time.Duration(s.Until * float64(time.Second)))
	for {
		err := r.try(s, with, vars)
		if err == nil || time.Now().After(end) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (r *runner) try(s step, with map[string]any, vars map[string]any) error {
	op, ok := operations[s.Do]
	if !ok {
		return errors.New("no such operation")
	}
	c := r.clients[cmp.Or(s.Client, r.sc.Server.Sockets[0].name)]
	if c == nil {
		return fmt.Errorf("no client %s", s.Client)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	result, err := op(ctx, &operation{r, c, with})
	var got any
	switch {
	case s.Error == nil && err != nil:
		return err
	case s.Error != nil && err == nil:
		return fmt.Errorf("done, with %.300s; want an error", asJSON(result))
	case s.Error != nil:
		if got, err = problemOf(err); err == nil {
			err = r.match(got, s.Error, vars)
		}
	default:
		if got, err = generic(result); err == nil && s.OK != nil {
			err = r.match(got, s.OK, vars)
		}
	}
	if err != nil {
		return err
	}
	for name, path := range s.Save {
		if vars[name], err = part(got, path); err != nil {
			return err
		}
	}
	return nil
}

// problemOf gives an error as patterns see it.
func problemOf(err error) (any, error) {
	var e *client.Error
	if !errors.As(err, &e) {
		return nil, fmt.Errorf("%T is no error of the client's: %w", err, err)
	}
	out, err := generic(e)
	if err == nil && e.RetryAfter > 0 {
		out.(map[string]any)["retry_after"] = e.RetryAfter.Seconds()
	}
	return out, err
}
