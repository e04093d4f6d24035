package testnet

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"accessor/checkpoint/checkpointtest"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files")

// played runs a scenario on Accessors in this process, in virtual time, and gives what
// it tells: the events, the failures and the object.
func played(t *testing.T, s *Scenario, opts Options) (text string, res *Result) {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() { _ = RemoveAll(dir) })
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		opts.Scenario, opts.SlotTime = s, 6*time.Second
		if opts.New == nil {
			opts.New = InProcess(dir, checkpointtest.Engine{})
		}
		opts.Event = func(slot int, what string) { fmt.Fprintf(&out, "slot %d: %s\n", slot, what) }
		var err error
		if res, err = Run(t.Context(), opts); err != nil {
			t.Fatal(err)
		}
		object, err := json.Marshal(res)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range res.Failures {
			fmt.Fprintln(&out, "failure:", f)
		}
		out.Write(append(object, '\n'))
		text = out.String()
	})
	return text, res
}

// TestScenarios: all scenarios come out as they must, and as they did.
func TestScenarios(t *testing.T) {
	for _, name := range Names() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := Load(name)
			if err != nil {
				t.Fatal(err)
			}
			got, res := played(t, s, Options{Seed: 1, Slots: 60})
			if !res.OK(s.Unavailable) {
				t.Errorf("not as it must be:\n%s", got)
			}
			golden := filepath.Join("testdata", name+".golden")
			if *rewrite {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

var errTest = errors.New("made up")

var _ = context.Canceled
